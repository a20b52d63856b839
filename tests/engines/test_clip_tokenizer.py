"""The tokenizer without transformers gives the ids of the one of transformers."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from dreamrelay.engines import pocket
from dreamrelay.engines.clip_tokenizer import ClipTokenizer
from dreamrelay.errors import EngineError
from tests.engines.tiny_models import WORDS, save_tokenizer

FOLDER = pocket.model_folder()
words = st.sampled_from([*WORDS, "blue", "Neon", "PIXEL art,", "<|endoftext|>", "it's", "42", "é"])
texts = st.text(max_size=40) | st.lists(words, max_size=100).map(" ".join)


@pytest.fixture(scope="module")
def theirs() -> Any:
    return CLIPTokenizer.from_pretrained(str(FOLDER / "tokenizer"), local_files_only=True)


@pytest.fixture(scope="module")
def ours() -> ClipTokenizer:
    return ClipTokenizer(FOLDER)


def test_same_ids_as_transformers(ours: ClipTokenizer, theirs: Any) -> None:
    @settings(deadline=None)
    @given(texts)
    def check(text: str) -> None:
        expected = theirs(
            text,
            padding="max_length",
            truncation=True,
            max_length=theirs.model_max_length,
            return_tensors="np",
        ).input_ids
        assert ours(text).tolist() == expected.tolist()

    check()


def test_ids_have_one_form_whatever_the_text(ours: ClipTokenizer) -> None:
    for text in ("", "blue", "blue " * 200):
        ids = ours(text)
        assert ids.shape == (1, 77)
        assert ids.dtype == "int64"


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "tokenizer_config.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    save_tokenizer(tmp_path / "tokenizer")
    (tmp_path / "tokenizer" / name).unlink()
    with pytest.raises(EngineError, match=name):
        ClipTokenizer(tmp_path)


def test_a_vocabulary_without_its_ends_is_refused(tmp_path: Path) -> None:
    save_tokenizer(tmp_path / "tokenizer")
    (tmp_path / "tokenizer" / "vocab.json").write_text('{"a": 0}', encoding="utf-8")
    with pytest.raises(EngineError, match="is broken"):
        ClipTokenizer(tmp_path)
