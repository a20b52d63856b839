"""Prompts to embeddings: diffusers' own without weights, compel's rule with them."""

from typing import Any

import pytest
import torch
from compel import Compel
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dreamrelay.engines.prompts import Embedding
from dreamrelay.engines.text import TextEncoder, TextEncoders
from tests.engines.tiny_models import WIDTH, WIDTH_2, save_model

TEXTS = [
    "",
    "a cat",
    "a red painting of the sea, in blue" * 9,
    "猫と海 🐈\n",
    "a_b-c 7 <|endoftext|>",
]


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    base = tmp_path_factory.mktemp("text")
    kinds = {"sd15": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline}
    return {
        kind: of_kind.from_pretrained(str(save_model(base / kind, kind)))  # type: ignore[arg-type]
        for kind, of_kind in kinds.items()
    }


@pytest.fixture(scope="module")
def encoders(pipelines: dict[str, Any]) -> dict[str, TextEncoders]:
    one, two = pipelines["sd15"], pipelines["sdxl"]
    return {
        "sd15": TextEncoders([TextEncoder(one.tokenizer, one.text_encoder)]),
        "sdxl": TextEncoders(
            [
                TextEncoder(two.tokenizer, two.text_encoder),
                TextEncoder(two.tokenizer_2, two.text_encoder_2),
            ]
        ),
    }


@pytest.fixture(autouse=True)
def no_gradients() -> Any:
    with torch.inference_mode():
        yield


def distance(one: Embedding, other: Embedding) -> float:
    return float((one.tokens - other.tokens).norm())


@pytest.mark.parametrize("text", TEXTS)
def test_a_plain_prompt_is_what_the_pipeline_of_sd_makes_of_it(
    pipelines: dict[str, Any], encoders: dict[str, TextEncoders], text: str
) -> None:
    expected, _ = pipelines["sd15"].encode_prompt(text, "cpu", 1, False)
    found = encoders["sd15"].weighted(text)
    torch.testing.assert_close(found.tokens, expected)
    assert found.pooled is None
    assert encoders["sd15"].width == WIDTH


@pytest.mark.parametrize("text", TEXTS)
def test_a_plain_prompt_is_what_the_pipeline_of_sdxl_makes_of_it(
    pipelines: dict[str, Any], encoders: dict[str, TextEncoders], text: str
) -> None:
    tokens, _, pooled, _ = pipelines["sdxl"].encode_prompt(text, device="cpu")
    found = encoders["sdxl"].weighted(text)
    torch.testing.assert_close(found.tokens, tokens)
    torch.testing.assert_close(found.pooled, pooled)
    assert encoders["sdxl"].width == WIDTH + WIDTH_2


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_heavier_words_lead_farther_from_the_empty_prompt(
    encoders: dict[str, TextEncoders], kind: str
) -> None:
    encode = encoders[kind].weighted
    plain = encode("a red cat")
    assert distance(encode("a (red:1.0) cat"), plain) == 0
    away = [distance(encode(f"a (red:{weight}) cat"), plain) for weight in (1.1, 1.3, 2.0)]
    assert 0 < away[0] < away[1] < away[2]
    assert distance(encode("a (red) cat"), plain) == pytest.approx(away[0], rel=1e-5)


def test_lighter_words_lead_to_the_prompt_without_them(encoders: dict[str, TextEncoders]) -> None:
    encode = encoders["sd15"].weighted
    plain, gone = encode("a red cat"), encode("a (red:0) cat")
    away = [distance(encode(f"a (red:{weight}) cat"), gone) for weight in (0.2, 0.5, 0.9)]
    assert 0 < away[0] < away[1] < away[2] < distance(plain, gone)


def test_the_rule_is_that_of_compel(
    pipelines: dict[str, Any], encoders: dict[str, TextEncoders]
) -> None:
    pipeline = pipelines["sd15"]
    compel = Compel(tokenizer=pipeline.tokenizer, text_encoder=pipeline.text_encoder)
    expected = compel("a (red)1.3 cat in the (sea)0.6")
    found = encoders["sd15"].weighted("a (red:1.3) cat in the (sea:0.6)").tokens
    torch.testing.assert_close(found, expected)


def test_weights_leave_the_pooled_embedding_alone(encoders: dict[str, TextEncoders]) -> None:
    encode = encoders["sdxl"].weighted
    torch.testing.assert_close(encode("a (red:1.5) cat").pooled, encode("a red cat").pooled)


def test_brackets_are_letters_where_they_weigh_nothing(encoders: dict[str, TextEncoders]) -> None:
    text = encoders["sd15"]
    assert distance(text.plain("a (red:1.5) cat"), text.weighted("a (red:1.5) cat")) > 0
    assert distance(text.plain("a (red) cat"), text.weighted(r"a \(red\) cat")) == 0


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.sampled_from(
            [
                "a",
                "red cat",
                "(",
                ")",
                "[",
                "]",
                ":0.5)",
                ":1.4)",
                " ",
                "<|startoftext|>",
                "\\",
                "猫",
            ]
        ),
        max_size=40,
    )
)
def test_every_text_is_a_prompt(encoders: dict[str, TextEncoders], words: list[str]) -> None:
    found = encoders["sd15"].weighted("".join(words))
    assert found.tokens.shape == (1, 77, WIDTH)
    assert bool(found.tokens.isfinite().all())
