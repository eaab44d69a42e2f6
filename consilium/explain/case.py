"""Case: one study on its way through the model, and what a method may ask of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from consilium.calibration import Calibration
from consilium.domain.diagnosis import WordWeight
from consilium.explain.model_input import known_features, words_of
from consilium.modalities.registry import nonempty_subsets, subset_key
from consilium.modalities.tokens import Tokens
from consilium.network.diagnosis_model import DiagnosisModel
from consilium.preprocessing.batch import Batch, Prepared
from consilium.preprocessing.collate import Preprocessing

Floats = npt.NDArray[np.float64]

WORDS, VALUES = "words", "values"
"""The traced tensors that are no module's output: word embeddings, and what each value adds to its token."""

_STEP = 1e-4
_ROWS = 64
"""Altered copies of a study that go through the model at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One study, encoded and fused once, with everything that methods differentiate.

    Attributes
    ----------
    tokens : dict of str to Tokens
        Of this one study.
    fused : float [1, F]
        Uncalibrated logits.
    traced : dict of str or Module to Tensor
        What gradients are taken of: word embeddings [1, L, E] under `WORDS`, value vectors [1, A, D] under `VALUES`,
        and the output of every module that was watched.
    words : tuple of (WordWeight, int [pieces])
        Every word that the model read, and where its pieces stand in the text.
    known : tuple of int
        Positions of the features that the study has.
    """

    model: DiagnosisModel
    preprocessing: Preprocessing
    calibration: Calibration
    prepared: Prepared
    batch: Batch
    tokens: dict[str, Tokens]
    fused: Tensor
    traced: dict[str | nn.Module, Tensor]
    words: tuple[tuple[WordWeight, npt.NDArray[np.intp]], ...]
    known: tuple[int, ...]
    _gradients: dict[int, dict[str | nn.Module, Tensor]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: DiagnosisModel,
        preprocessing: Preprocessing,
        calibration: Calibration,
        prepared: Prepared,
        watched: Sequence[nn.Module] = (),
    ) -> Case:
        """Pass `prepared` through `model` (in evaluation mode); `watched` modules' outputs are traced."""
        batch = preprocessing.collate([prepared]).to(next(model.parameters()).device)
        with torch.enable_grad(), _watching(watched) as seen:
            tokens, trace = model.trace(batch)
        traced = dict(seen)
        if trace.embeddings is not None:
            traced[WORDS] = trace.embeddings
        if trace.values is not None:
            traced[VALUES] = trace.values
        return cls(
            model=model,
            preprocessing=preprocessing,
            calibration=calibration,
            prepared=prepared,
            batch=batch,
            tokens=tokens,
            fused=trace.fused,
            traced=traced,
            words=tuple(words_of(prepared.text, prepared.study.notes)),
            known=known_features(prepared.observations),
        )

    # --- calibrated log-odds -----------------------------------------------------------------------------------------

    @property
    def subset(self) -> str:
        """Key of the modalities that the study has."""
        return subset_key(self.prepared.present)

    def log_odds(self, fused: Tensor) -> Floats:
        """Calibrated log-odds [..., F] of fused logits [..., F] with this study's modalities."""
        return self.calibration.log_odds(fused.detach().cpu().double().numpy(), self.subset)

    def subset_log_odds(self) -> dict[frozenset[str], Floats]:
        """Calibrated log-odds [F] of every subset of the modalities that are there; of the empty one the prior."""
        found = {frozenset[str](): np.asarray(self.calibration.prior_log_odds)}
        with torch.no_grad():
            for subset in nonempty_subsets(self.prepared.present):
                keep = {m: torch.full_like(said.present, m in subset) for m, said in self.tokens.items()}
                logits = self.model.fuse(self.model.without(self.tokens, keep)).cpu().double().numpy()
                found[subset] = self.calibration.log_odds(logits, subset_key(subset))[0]
        return found

    def direction(self, fused: Tensor, position: int) -> Tensor:
        """How the log-odds of the finding at `position` change with the logits, [N, F] at `fused` [N, F].

        By central differences: the calibration is asked, not repeated here.
        """
        logits = fused.detach().cpu().double().numpy()[:, None]
        steps = np.eye(logits.shape[-1]) * _STEP
        ahead = self.calibration.log_odds(logits + steps, self.subset)[..., position]
        behind = self.calibration.log_odds(logits - steps, self.subset)[..., position]
        return torch.from_numpy((ahead - behind) / (2 * _STEP)).to(fused)

    def gradients(self, position: int) -> dict[str | nn.Module, Tensor]:
        """Of the finding's log-odds with respect to everything that is traced; one backward pass, remembered."""
        if position not in self._gradients:
            target = (self.fused * self.direction(self.fused, position)).sum()
            found = torch.autograd.grad(target, list(self.traced.values()), retain_graph=True)
            self._gradients[position] = dict(zip(self.traced, found, strict=True))
        return self._gradients[position]

    # --- the study, altered ------------------------------------------------------------------------------------------

    def fuse_with(self, modality: str, said: Tokens) -> Tensor:
        """Fused logits [N, F] where `modality` says `said` (N rows) and the others what they say of this study."""
        rows = len(said.mask)
        tokens = {
            m: said if m is modality else Tokens(own.values.detach().expand(rows, -1, -1), own.mask.expand(rows, -1))
            for m, own in self.tokens.items()
        }
        return self.model.fuse(tokens)

    def log_odds_with_images(self, images: Tensor) -> Floats:
        """Calibrated log-odds [N, F] with other pixels, float [N, V, 1, S, S] in [0, 1]."""
        encoder, batch = self.model.encoders["image"], self.batch

        def encode(rows: slice) -> Tokens:
            count = len(images[rows])
            return encoder(images[rows], batch.image_mask.expand(count, -1), batch.views.expand(count, -1))

        return self._altered("image", encode, len(images))

    def log_odds_with_words(self, mask: Tensor) -> Floats:
        """Calibrated log-odds [N, F] where only the word pieces of `mask` (bool [N, L]) are read."""
        return self._masked("text", (self.batch.input_ids,), mask)

    def log_odds_with_values(self, mask: Tensor) -> Floats:
        """Calibrated log-odds [N, F] where only the features of `mask` (bool [N, A]) are known."""
        return self._masked("observations", (self.batch.observations, self.batch.observation_codes), mask)

    def _masked(self, modality: str, inputs: Sequence[Tensor], mask: Tensor) -> Floats:
        encoder = self.model.encoders[modality]

        def encode(rows: slice) -> Tokens:
            here = mask[rows]
            return encoder(*(tensor.expand(len(here), -1) for tensor in inputs), here)

        return self._altered(modality, encode, len(mask))

    def _altered(self, modality: str, encode: Callable[[slice], Tokens], rows: int) -> Floats:
        """Log-odds of altered copies; one in which nothing of `modality` is left counts as a study without it."""
        others = subset_key(self.prepared.present - {modality})
        found = []
        with torch.no_grad():
            for start in range(0, rows, _ROWS):
                said = encode(slice(start, start + _ROWS))
                logits = self.fuse_with(modality, said).cpu().double().numpy()
                left = said.present.cpu().numpy()[:, None]
                heard = self.calibration.log_odds(logits, self.subset)
                found.append(np.where(left, heard, self.calibration.log_odds(logits, others)))
        return np.concatenate(found) if found else np.zeros((0, self.fused.shape[1]))


@contextmanager
def _watching(modules: Sequence[nn.Module]) -> Iterator[dict[str | nn.Module, Tensor]]:
    """The output of each of `modules` while the context lasts, with a gradient even where their weights are frozen."""
    seen: dict[str | nn.Module, Tensor] = {}

    def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        del inputs
        seen[module] = output if output.requires_grad else output.detach().requires_grad_()
        return seen[module]

    hooks = [module.register_forward_hook(watch) for module in modules]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
