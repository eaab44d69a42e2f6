"""Notes → tokens, with any Hugging Face text model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from torch import Tensor, nn

from consilium.configuration.recipe import TextRecipe
from consilium.domain.errors import InputError
from consilium.modalities.tokens import Dense, Tokens, no_tokens, scatter_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def _build(recipe: TextRecipe, config: dict[str, Any], *, pretrained: bool) -> PreTrainedModel:
    from transformers import AutoConfig, AutoModel

    if pretrained and recipe.model is not None:
        try:
            with _quiet():
                # It comes in evaluation mode, in which it would learn without dropout.
                return AutoModel.from_pretrained(recipe.model).train()
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            rule = f"must be a Hugging Face model's hub id or local folder ({type(error).__name__})"
            raise InputError("text.model", recipe.model, rule) from None
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


class TextEncoder(nn.Module):
    """Word pieces [B, L] → tokens [B, L, D].

    Parameters
    ----------
    recipe : TextRecipe
    config : dict
        The Hugging Face configuration, which travels in the artifact, so that loading one needs no hub.
    width : int
        D.
    pretrained : bool
        Read the weights of `recipe.model`; False where the weights come from an artifact.
    """

    def __init__(self, recipe: TextRecipe, config: dict[str, Any], width: int, *, pretrained: bool = True) -> None:
        super().__init__()
        self.model = _build(recipe, config, pretrained=pretrained)
        if getattr(self.model, "pooler", None) is not None:
            self.model.pooler = None
        if recipe.frozen:
            self.model.requires_grad_(requires_grad=False)
            self.model.eval()
        self.width = width
        self.project = nn.Linear(self.model.config.hidden_size, width)
        self.norm = nn.LayerNorm(width)

    def embed(self, input_ids: Tensor) -> Tensor:
        """Word embeddings [B, L, E], the place where explanations of words begin."""
        return self.model.get_input_embeddings()(input_ids)

    def forward(
        self, input_ids: Tensor, text_mask: Tensor, embeddings: Tensor | None = None, dense: Dense | None = None
    ) -> Tokens:
        """`input_ids` int [B, L], `text_mask` bool [B, L], `embeddings` [B, L, E] in place of those of `input_ids`.

        `dense` runs in place of `self.dense`, which it was made from.
        """
        rows = text_mask.any(dim=1)
        if not rows.any():
            return no_tokens(len(rows), self.width, text_mask.device)
        if embeddings is None:
            tokens = (dense or self.dense)(input_ids[rows], text_mask[rows])
        else:
            tokens = self._read(embeddings[rows], text_mask[rows])
        return Tokens(scatter_rows(tokens, rows), text_mask)

    def dense(self, input_ids: Tensor, text_mask: Tensor) -> Tensor:
        """Of notes that are there, [n, L] both, the tokens, [n, L, D]."""
        return self._read(self.embed(input_ids), text_mask)

    def _read(self, embeddings: Tensor, text_mask: Tensor) -> Tensor:
        hidden = self.model(inputs_embeds=embeddings, attention_mask=text_mask.long()).last_hidden_state
        return self.norm(self.project(hidden))
