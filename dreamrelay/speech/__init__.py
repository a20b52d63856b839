"""What was said: a recording in, words out, and what they ask for.

The relay imports no more than this: engines run in a process of their own (``service``), which
loads them when somebody speaks for the first time. Nothing here ever writes audio anywhere.
"""

from dreamrelay.speech.catalog import check_speech, open_speech
from dreamrelay.speech.intent import Action, understand
from dreamrelay.speech.ports import Heard, Speech, SpeechProgress, Word
from dreamrelay.speech.service import SpeechService

__all__ = [
    "Action",
    "Heard",
    "Speech",
    "SpeechProgress",
    "SpeechService",
    "Word",
    "check_speech",
    "open_speech",
    "understand",
]
