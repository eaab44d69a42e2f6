"""Notes → tokens, with any Hugging Face text model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from consilium.domain.errors import InputError
from consilium.modalities.part import MASK
from consilium.modalities.text.preparation import INPUT_IDS, TextPreparation
from consilium.modalities.text.section import TextSection
from consilium.modalities.tokens import Dense, DenseEncoder, FusionShape, Inputs, Tokens, no_tokens, scatter_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def _build(recipe: TextSection, config: dict[str, Any], *, pretrained: bool) -> PreTrainedModel:
    from transformers import AutoConfig, AutoModel

    if pretrained and recipe.model is not None:
        try:
            with _quiet():
                # It comes in evaluation mode, in which it would learn without dropout.
                return AutoModel.from_pretrained(recipe.model).train()
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            rule = f"must be a Hugging Face model's hub id or local folder ({type(error).__name__})"
            raise InputError("modalities.text.model", recipe.model, rule) from None
    typed = AutoConfig.for_model(**config)
    try:
        # A pooler that nothing reads has no gradient, and distributed training stops at such parameters.
        return AutoModel.from_config(typed, add_pooling_layer=False)
    except TypeError:  # this architecture has none
        return AutoModel.from_config(typed)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the bar and the report that would stand across the log."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


class TextEncoder(DenseEncoder):
    """Word pieces [B, L] → tokens [B, L, D].

    Parameters
    ----------
    recipe : TextSection
    config : dict
        The Hugging Face configuration, which travels in the artifact, so that loading one needs no hub.
    width : int
        D.
    pretrained : bool
        Read the weights of `recipe.model`; False where the weights come from an artifact.
    """

    dense_axes = ((-1, -1), (-1, -1))

    def __init__(self, recipe: TextSection, config: dict[str, Any], width: int, *, pretrained: bool = True) -> None:
        super().__init__()
        self.model = _build(recipe, config, pretrained=pretrained)
        if getattr(self.model, "pooler", None) is not None:
            self.model.pooler = None
        if recipe.frozen:
            self.model.requires_grad_(requires_grad=False)
            self.model.eval()
        self.width = width
        if recipe.learning_rate is not None:
            self.learning_rates = {"model.": recipe.learning_rate}
        self.project = nn.Linear(self.model.config.hidden_size, width)
        self.norm = nn.LayerNorm(width)

    @classmethod
    def build(
        cls, section: TextSection, preparation: TextPreparation, fusion: FusionShape, *, pretrained: bool
    ) -> TextEncoder:
        return cls(section, preparation.config, fusion.width, pretrained=pretrained)

    def embed(self, input_ids: Tensor) -> Tensor:
        """Word embeddings [B, L, E], the place where explanations of words begin."""
        return self.model.get_input_embeddings()(input_ids)

    def forward(self, inputs: Inputs, dense: Dense | None = None, embeddings: Tensor | None = None) -> Tokens:
        """`inputs`: input_ids int and mask bool, [B, L] both; `embeddings` [B, L, E] in place of those of the ids."""
        mask = inputs[MASK]
        rows = mask.any(dim=1)
        if not rows.any():
            return no_tokens(len(rows), self.width, mask.device)
        if embeddings is None:
            tokens = (dense or self.dense)(*self.dense_inputs(inputs))
        else:
            tokens = self._read(embeddings[rows], mask[rows])
        return Tokens(scatter_rows(tokens, rows), mask)

    def traced(self, inputs: Inputs) -> tuple[Tokens, Tensor | None]:
        """The tokens and the word embeddings, [B, L, E]."""
        if not inputs[MASK].any():
            return self.forward(inputs), None
        embeddings = self.embed(inputs[INPUT_IDS]).detach().requires_grad_()
        return self.forward(inputs, embeddings=embeddings), embeddings

    def dense_inputs(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """The studies that have notes: their word pieces and mask, [n, L] both."""
        mask = inputs[MASK]
        rows = mask.any(dim=1)
        return inputs[INPUT_IDS][rows], mask[rows]

    def dense_examples(self, length: int) -> tuple[Tensor, Tensor]:
        pieces = torch.zeros(length, length, dtype=torch.long)
        return pieces, pieces == 0

    def dense(self, *tensors: Tensor) -> Tensor:
        """Of notes that are there, word pieces and mask, [n, L] both, the tokens, [n, L, D]."""
        input_ids, text_mask = tensors
        return self._read(self.embed(input_ids), text_mask)

    def _read(self, embeddings: Tensor, text_mask: Tensor) -> Tensor:
        hidden = self.model(inputs_embeds=embeddings, attention_mask=text_mask.long()).last_hidden_state
        return self.norm(self.project(hidden))
