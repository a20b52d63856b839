"""From prompts to embeddings: one CLIP text encoder, or the two of SDXL, with weights per word.

Weights stand in the prompt as people type them, ``a (red:1.3) cat`` (:mod:`prompt_grammar`); what
they do to the embedding is the package compel's rule: heavier words are taken farther from the
empty prompt, lighter ones blended with the prompt that lacks them.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from dreamrelay.engines.prompt_grammar import Part, parse, plain_text
from dreamrelay.engines.prompts import Embedding
from dreamrelay.importer import Entry

# Not before a model is loaded: compel imports all of diffusers' pipelines, and they talk.
_PROVIDER = Entry("compel.embeddings_provider:EmbeddingsProvider", "prompts", "worker")
_STATES = Entry("compel.embeddings_provider:ReturnedEmbeddingsType", "prompts", "worker")


class TextEncoder(NamedTuple):
    """A text encoder of transformers and its tokenizer."""

    tokenizer: Any
    module: Any


class TextEncoders:
    """Everything that a model reads a prompt with.

    Args:
        encoders: CLIP's; of SDXL both, and the second one gives the pooled embedding.
    """

    def __init__(self, encoders: Sequence[TextEncoder]) -> None:
        self.encoders = tuple(encoders)
        self.pools = len(self.encoders) > 1
        """Whether embeddings have a pooled part."""
        states = _STATES.load()
        self._provider = _PROVIDER.load()
        self._states = (
            states.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED
            if self.pools
            else states.LAST_HIDDEN_STATES_NORMALIZED
        )

    @property
    def width(self) -> int:
        """Of an embedding."""
        return sum(encoder.module.config.hidden_size for encoder in self.encoders)

    @property
    def pooled_width(self) -> int | None:
        """Of the pooled embedding; None where there is none."""
        return self.encoders[-1].module.config.projection_dim if self.pools else None

    def plain(self, text: str) -> Embedding:
        """The embedding of a text in which brackets are letters like others."""
        return self._encode((Part(text, 1.0),))

    def weighted(self, text: str) -> Embedding:
        """The embedding of a prompt with weights in it; without any, that of the plain text."""
        return self._encode(parse(text))

    def _encode(self, parts: tuple[Part, ...]) -> Embedding:
        read = [self._read(encoder, plain_text(parts)) for encoder in self.encoders]
        tokens = [states for states, _ in read]
        if any(part.weight != 1 for part in parts):
            tokens = [self._weighed(encoder, parts) for encoder in self.encoders]
        # Words have no weights in what is said of the text as a whole, nor has compel any there.
        return Embedding(torch.cat(tokens, dim=-1), read[-1][1])

    def _read(self, encoder: TextEncoder, text: str) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Embeddings of the words (1, words, width), and of the text as a whole (1, width)."""
        tokenizer, module = encoder
        ids = tokenizer(
            text,
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        said = module(ids.to(module.device), output_hidden_states=self.pools)
        if not self.pools:
            return said.last_hidden_state, None
        return said.hidden_states[-2], getattr(said, "text_embeds", None)

    def _weighed(self, encoder: TextEncoder, parts: Sequence[Part]) -> torch.Tensor:
        """Embeddings of weighted words, (1, words, width)."""
        tokenizer, module = encoder
        # Made anew each time: it keeps the embedding of the empty prompt, which a LoRA over the
        # text encoder changes.
        provider = self._provider(
            tokenizer,
            module,
            dtype_for_device_getter=lambda device: module.dtype,
            returned_embeddings_type=self._states,
        )
        # It looks for where each part begins, and must not find the markers of the whole there.
        marks = re.compile("|".join(map(re.escape, (tokenizer.bos_token, tokenizer.eos_token))))
        texts = [(marks.sub(" ", part.text), part.weight) for part in parts]
        # A part without a word in it would be a weight without anything to weigh.
        texts = [(text, weight) for text, weight in texts if text.strip()] or [("", 1.0)]
        embedding: torch.Tensor = provider.get_embeddings_for_weighted_prompt_fragments(
            [[text for text, _ in texts]], [[weight for _, weight in texts]], device=module.device
        )
        return embedding
