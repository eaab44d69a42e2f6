"""Notes → tokens, with any Hugging Face text model.

Texts longer than the model reads at a time go through it in windows that overlap, as rows of one batch; the connector
and the fusion look at the tokens of all windows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from consilium.modalities.connectors import build_connector
from consilium.modalities.part import MASK
from consilium.modalities.text.bag_of_pieces import BagOfPieces
from consilium.modalities.text.language_model import build_network
from consilium.modalities.text.preparation import INPUT_IDS, TextPreparation
from consilium.modalities.text.section import TextSection
from consilium.modalities.text.windows import Layout, Windows
from consilium.modalities.tokens import DenseEncoder, FusionShape, Inputs, Tokens, no_tokens, scatter_rows


class TextEncoder(DenseEncoder):
    """Word pieces [B, L] → tokens [B, T', D].

    Parameters
    ----------
    recipe : TextSection
    config : mapping
        The Hugging Face configuration, which travels in the artifact, so that loading one needs no hub.
    windows : Windows
        How texts are cut that are longer than the model reads at a time.
    fusion : FusionShape
        Its width is D.
    pretrained : bool
        Read the weights of `recipe.model`; False where the weights come from an artifact.
    """

    dense_axes = ((-1, -1), (-1, -1))

    def __init__(
        self,
        recipe: TextSection,
        config: Mapping[str, Any],
        windows: Windows,
        fusion: FusionShape,
        *,
        pretrained: bool = True,
    ) -> None:
        super().__init__()
        alone = fusion.linear and recipe.model is None and recipe.weights is None
        network: Any = (
            BagOfPieces(config["vocab_size"]) if alone else build_network(recipe, config, pretrained=pretrained)
        )
        self.model = network
        self.windows = windows
        self.connector = build_connector(recipe.connector, network.config.hidden_size, fusion, modality="text")
        self.width = self.connector.width
        self.linear = fusion.linear
        self.norm = nn.Identity() if fusion.linear else nn.LayerNorm(self.width)
        self.adapt(recipe, modality="text", pretrained=pretrained)

    @classmethod
    def build(
        cls, section: TextSection, preparation: TextPreparation, fusion: FusionShape, *, pretrained: bool
    ) -> TextEncoder:
        return cls(section, preparation.config, preparation.windows, fusion, pretrained=pretrained)

    def embed(self, input_ids: Tensor) -> Tensor:
        """Word embeddings [B, L, E], the place where explanations of words begin."""
        found: Tensor = self.word_embeddings(input_ids)
        return found

    @property
    def word_embeddings(self) -> nn.Embedding:
        network: Any = self.model
        return cast(nn.Embedding, network.get_input_embeddings())

    @property
    def body(self) -> nn.Module:
        return cast(nn.Module, self.model)

    @property
    def reduction(self) -> str:
        return self.connector.reduction

    def blocks(self) -> list[nn.Module]:
        """The model's layers, in order; its embeddings go with the first one."""
        lists = [module for module in self.model.modules() if isinstance(module, nn.ModuleList)]
        return list(max(lists, key=len, default=[self.model]))

    @property
    def one_scale(self) -> bool:
        return isinstance(self.model, BagOfPieces)

    @property
    def frozen(self) -> bool:
        # How rare words are is learned of every training set anew.
        return super().frozen and not isinstance(self.model, BagOfPieces)

    def rows(self, inputs: Inputs) -> Tensor:
        """The windows in which a study has something, bool [B, W]."""
        layout = self._layout(inputs)
        return (_cut(inputs[MASK], layout) & layout.owned).any(dim=2)

    @torch.no_grad()
    def observe(self, inputs: Inputs) -> None:
        if isinstance(self.model, BagOfPieces):
            self.model.count(inputs[INPUT_IDS], inputs[MASK])

    def from_embeddings(self, inputs: Inputs, embeddings: Tensor) -> Tokens:
        """Tokens of a batch with `embeddings` [B, L, E] in place of those of its word pieces."""
        mask = inputs[MASK]
        if not mask.any():
            return no_tokens(len(mask), self.width, mask.device)
        given = _cut(embeddings, self._layout(inputs))[self.rows(inputs)]
        with self._embedded(given):
            features = self.dense(*self.dense_inputs(inputs))
        return self.tokens(features, inputs)

    def traced(self, inputs: Inputs) -> tuple[Tokens, Tensor | None]:
        """The tokens and the word embeddings, [B, L, E]."""
        if not inputs[MASK].any():
            return self.forward(inputs), None
        embeddings = self.embed(inputs[INPUT_IDS]).detach().requires_grad_()
        return self.from_embeddings(inputs, embeddings), embeddings

    def dense_inputs(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """The windows in which there is something: their word pieces and mask, [n, S] both."""
        layout, rows = self._layout(inputs), self.rows(inputs)
        mask = _cut(inputs[MASK], layout) & layout.there
        return _cut(inputs[INPUT_IDS], layout)[rows], mask[rows]

    def dense_examples(self, length: int) -> tuple[Tensor, Tensor]:
        pieces = torch.zeros(length, length, dtype=torch.long)
        return pieces, pieces == 0

    def dense(self, *tensors: Tensor) -> Tensor:
        """Of windows, word pieces and mask, [n, S] both, what the model makes of them, [n, S, C]."""
        input_ids, text_mask = tensors
        hidden: Tensor = self.model(input_ids=input_ids, attention_mask=text_mask.long()).last_hidden_state
        return self.connector.reduce(hidden)

    def tokens(self, features: Tensor, inputs: Inputs) -> Tokens:
        """`features` [n, S, C] of the windows in which there is something; `inputs`: mask bool [B, L]."""
        mask, layout = inputs[MASK], self._layout(inputs)
        by_window = scatter_rows(features, self.rows(inputs)).flatten(1, 2)
        read = by_window[:, layout.owner]
        studies = mask.any(dim=1)
        found = self.norm(self.connector(read[studies], mask[studies]))
        there = self.connector.token_mask(mask[studies])
        return Tokens(scatter_rows(found, studies), scatter_rows(there, studies))

    def _layout(self, inputs: Inputs) -> Layout:
        mask = inputs[MASK]
        return self.windows.layout(mask.shape[1]).to(mask.device)

    @contextmanager
    def _embedded(self, embeddings: Tensor) -> Iterator[None]:
        """With `embeddings` [n, S, E] in place of those that the model looks up, of which it may make more.

        Not every model takes embeddings as an input; every one has a module that looks them up.
        """

        def replaced(module: nn.Module, inputs: tuple[Tensor, ...], looked_up: Tensor) -> Tensor:
            del module, inputs
            return torch.cat([embeddings, looked_up[:, embeddings.shape[1] :]], dim=1)

        hook = self.word_embeddings.register_forward_hook(replaced)
        try:
            yield
        finally:
            hook.remove()


def _cut(values: Tensor, layout: Layout) -> Tensor:
    """`values` [B, L, ...] of word pieces by window, [B, W, S, ...]."""
    return values[:, layout.places]
