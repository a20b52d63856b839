"""The speech port, documented for whoever adds an engine; standard library only."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self


@dataclass(frozen=True, slots=True)
class Word:
    """One word and where it lies in the recording, in seconds from its beginning."""

    text: str
    start: float
    end: float
    confidence: float
    """0..1, as the engine sees it."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What was understood of one recording.

    Attributes:
        text: empty where nobody spoke, or nothing that the engine knows was said.
        confidence: 0..1; of all words together.
        seconds: length of the recording.
        spoken: seconds of it in which somebody spoke.
    """

    text: str
    confidence: float
    words: tuple[Word, ...] = ()
    seconds: float = 0.0
    spoken: float = 0.0

    def as_fields(self) -> dict[str, Any]:
        """As JSON would have it."""
        return asdict(self)

    @classmethod
    def of_fields(cls, fields: Mapping[str, Any]) -> Self:
        """The same back from JSON."""
        words = tuple(Word(**word) for word in fields.get("words", ()))
        return cls(**{**fields, "words": words})


@dataclass(frozen=True, slots=True)
class SpeechProgress:
    """How far the loading of an engine is; ``fraction`` is 0..1, None when nobody can say."""

    text: str
    fraction: float | None = None


Report = Callable[[SpeechProgress], None]


class Speech(ABC):
    """Recordings in, words out. Used by one thread; the constructor checks, and loads nothing."""

    name: ClassVar[str]

    @abstractmethod
    def load(self, report: Report) -> None:
        """Load (and perhaps download) what is needed; idempotent.

        Raises:
            EngineError: it cannot be had here; says the next step.
        """

    @abstractmethod
    def transcribe(self, data: bytes, vocabulary: Sequence[str] = ()) -> Heard:
        """Understand one recording.

        Args:
            data: an audio file as browsers record it (WebM/Opus, Ogg, MP4) or WAV, MP3, FLAC; at
                most ``audio.MAX_BYTES`` and ``audio.MAX_SECONDS``.
            vocabulary: words and phrases that the stream's model knows. An engine with a fixed
                grammar understands only these and the commands; the others expect them.

        Raises:
            ProtocolError: it is no audio, broken, or too long.
            EngineError: it could not be understood for another reason than itself.
        """
