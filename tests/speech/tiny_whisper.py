"""A Whisper model of random weights in CTranslate2's format, so that the real class runs.

It understands nothing; what it writes is noise. A few hundred kilobytes, made in a second.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from ctranslate2.specs import whisper_spec
from tokenizers import decoders, models, pre_tokenizers

WIDTH = 32
HEADS = 2
MELS = 80
SPECIAL = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
)


def make_tiny_whisper(folder: Path) -> Path:
    """Write the model into ``folder`` and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    times = [f"<|{number * 0.02:.2f}|>" for number in range(1501)]
    tokens = [*letters, *SPECIAL, *times]
    tokenizer = tokenizers.Tokenizer(
        models.BPE({letter: number for number, letter in enumerate(letters)}, [])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([*SPECIAL, *times])
    tokenizer.save(str(folder / "tokenizer.json"))
    spec = _spec(len(tokens))
    spec.register_vocabulary(tokens)
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = [len(letters)]
    spec.config.alignment_heads = [(0, 0), (0, 1)]
    spec.config.lang_ids = []
    spec.validate()
    spec.optimize(quantization=None)
    spec.save(str(folder))
    (folder / "preprocessor_config.json").write_text(json.dumps({"feature_size": MELS}))
    return folder


def _spec(vocabulary: int) -> Any:
    random = np.random.default_rng(7)

    def numbers(*shape: int) -> Any:
        return random.normal(0, 0.1, shape).astype(np.float32)

    def linear(layer: Any, outputs: int, inputs: int) -> None:
        layer.weight, layer.bias = numbers(outputs, inputs), numbers(outputs)

    def norm(layer: Any) -> None:
        layer.gamma, layer.beta = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)

    def attention(block: Any, *, crossed: bool) -> None:
        norm(block.layer_norm)
        if crossed:
            linear(block.linear[0], WIDTH, WIDTH)
            linear(block.linear[1], 2 * WIDTH, WIDTH)
        else:
            linear(block.linear[0], 3 * WIDTH, WIDTH)
        linear(block.linear[-1], WIDTH, WIDTH)

    def forward(block: Any) -> None:
        norm(block.layer_norm)
        linear(block.linear_0, 4 * WIDTH, WIDTH)
        linear(block.linear_1, WIDTH, 4 * WIDTH)

    spec = whisper_spec.WhisperSpec(1, HEADS, 1, HEADS)
    encoder, decoder = spec.encoder, spec.decoder
    encoder.conv1.weight, encoder.conv1.bias = numbers(WIDTH, MELS, 3), numbers(WIDTH)
    encoder.conv2.weight, encoder.conv2.bias = numbers(WIDTH, WIDTH, 3), numbers(WIDTH)
    encoder.position_encodings.encodings = numbers(1500, WIDTH)
    decoder.position_encodings.encodings = numbers(448, WIDTH)
    decoder.embeddings.weight = numbers(vocabulary, WIDTH)
    decoder.projection.weight = numbers(vocabulary, WIDTH)
    decoder.scale_embeddings = False
    for side in (encoder, decoder):
        norm(side.layer_norm)
        for layer in side.layer:
            attention(layer.self_attention, crossed=False)
            forward(layer.ffn)
    for layer in decoder.layer:
        attention(layer.attention, crossed=True)
    return spec
