"""CLIP's tokenizer over ``vocab.json`` and ``merges.txt``, without transformers."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE

from dreamrelay.engines.model_folder import existing, read_json
from dreamrelay.errors import EngineError

_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d"
    r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


class ClipTokenizer:
    """Text to token ids, the same ids that transformers' CLIPTokenizer gives."""

    def __init__(self, folder: Path) -> None:
        """Read the tokenizer of a model's ``folder``.

        Raises:
            EngineError: a file of it is missing or broken.
        """
        config = read_json(existing(folder, "tokenizer/tokenizer_config.json"))
        vocabulary = read_json(existing(folder, "tokenizer/vocab.json"))
        merges = existing(folder, "tokenizer/merges.txt").read_text(encoding="utf-8").splitlines()
        pairs = [(left, right) for left, _, right in (line.partition(" ") for line in merges[1:])]
        pairs = [pair for pair in pairs if pair[1]]
        self.length = int(config.get("model_max_length", 77))
        start, end, pad, unknown = (
            _named(config.get(f"{role}_token", "<|endoftext|>"))
            for role in ("bos", "eos", "pad", "unk")
        )
        try:
            # The library's own error for these has no type that could be caught.
            missing = {part for pair in pairs for part in (*pair, "".join(pair))} - set(vocabulary)
            if missing:
                raise KeyError(min(missing))
            model = BPE(
                vocab=vocabulary,
                merges=pairs,
                continuing_subword_prefix="",
                end_of_word_suffix="</w>",
                fuse_unk=False,
                unk_token=unknown,
            )
            self._start, self._end, self._pad = (vocabulary[token] for token in (start, end, pad))
        except (KeyError, TypeError, ValueError) as error:
            raise EngineError(
                f"{folder / 'tokenizer'} is broken ({json.dumps(str(error))[:200]}): "
                "download the model again"
            ) from error
        self._tokenizer = Tokenizer(model)
        self._tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
        )
        self._tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        special = dict.fromkeys((start, end, pad, unknown))
        self._tokenizer.add_special_tokens(
            [AddedToken(token, special=True, normalized=False) for token in special]
        )

    def __call__(self, text: str) -> NDArray[np.int64]:  # (1, length)
        """The ids between start and end, cut off and padded to :attr:`length`."""
        words = self._tokenizer.encode(text, add_special_tokens=False).ids[: self.length - 2]
        ids = np.full((1, self.length), self._pad, np.int64)
        ids[0, 0] = self._start
        ids[0, 1 : 1 + len(words)] = words
        ids[0, 1 + len(words)] = self._end
        return ids


def _named(token: object) -> str:
    """A token by its text; older files say it with an object."""
    return str(token["content"]) if isinstance(token, dict) else str(token)
