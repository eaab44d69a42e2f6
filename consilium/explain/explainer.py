"""All four parts of an explanation, for one study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from consilium.calibration import Calibration
from consilium.collate import Batch, Prepared, Preprocessing
from consilium.diagnosis import FindingExplanation, ImageSaliency, ObservationWeight, WordWeight
from consilium.encoders import Tokens
from consilium.encoders.observations import ObservationsEncoder
from consilium.encoders.text import TextEncoder
from consilium.errors import InputError
from consilium.explain import saliency
from consilium.explain import values as observed
from consilium.explain import words as worded
from consilium.explain.modalities import shapley
from consilium.findings import FindingSet
from consilium.model import DiagnosisModel, Logits, Trace
from consilium.study import Modality, nonempty_subsets, subset_key

LEVELS = ("fast", "thorough")
_STEP = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """One study on its way through the model."""

    model: DiagnosisModel
    preprocessing: Preprocessing
    calibration: Calibration
    prepared: Prepared
    batch: Batch
    tokens: dict[Modality, Tokens]
    trace: Trace

    @property
    def subset(self) -> str:
        return subset_key(self.prepared.present)

    def log_odds(self, fused: Tensor) -> npt.NDArray[np.float64]:
        """Calibrated log-odds [N, F] of fused logits with this study's modalities."""
        return self.calibration.log_odds(fused.detach().cpu().double().numpy(), self.subset)


def explain(
    model: DiagnosisModel,
    preprocessing: Preprocessing,
    calibration: Calibration,
    prepared: Prepared,
    findings: FindingSet,
    names: Sequence[str],
    level: str = "fast",
) -> tuple[tuple[FindingExplanation, ...], Logits]:
    """What spoke for each of the findings `names`, and the logits of the forward pass that was explained.

    Raises
    ------
    InputError
        For an unknown finding or level.
    """
    if level not in LEVELS:
        raise InputError("level", level, f"must be one of {', '.join(LEVELS)}")
    positions = [findings.index(name) for name in names]
    device = next(model.parameters()).device
    batch = preprocessing.collate([prepared]).to(device)
    with torch.enable_grad():
        tokens, trace = model.trace(batch)
    case = _Case(model, preprocessing, calibration, prepared, batch, tokens, trace)
    modalities = _modality_values(case)
    left_out = _LeftOut.of(case) if level == "thorough" else None
    explained = []
    for order, position in enumerate(positions):
        images, words, observations = _by_gradient(case, position, last=order == len(positions) - 1)
        methods = {"image": saliency.METHOD, "words": worded.GRADIENT, "observations": observed.GRADIENT}
        if left_out is not None:
            words, observations = left_out.words(case, position), left_out.observations(case, position)
            methods |= {"words": worded.LEAVE_ONE_OUT, "observations": observed.LEAVE_ONE_OUT}
        values = {subset: float(log_odds[position]) for subset, log_odds in modalities.items()}
        explained.append(
            FindingExplanation(
                finding=findings.findings[position],
                log_odds=values[prepared.present],
                prior_log_odds=values[frozenset()],
                modalities=shapley(values),
                images=images,
                words=words,
                observations=observations,
                methods=methods | {"modalities": "shapley"},
            )
        )
    with torch.no_grad():
        opinions = model.opinions(tokens)
        features = model.features(tokens, model.fusion(tokens))
    present = {modality: said.present for modality, said in tokens.items()}
    return tuple(explained), Logits(trace.fused.detach(), opinions, present, features)


def _modality_values(case: _Case) -> dict[frozenset[Modality], npt.NDArray[np.float64]]:
    """Calibrated log-odds [F] of every subset of the modalities that are there."""
    values = {frozenset[Modality](): np.asarray(case.calibration.prior_log_odds)}
    with torch.no_grad():
        for subset in nonempty_subsets(case.prepared.present):
            keep = {m: torch.full_like(said.present, m in subset) for m, said in case.tokens.items()}
            logits = case.model.fuse(case.model.without(case.tokens, keep)).cpu().double().numpy()
            values[subset] = case.calibration.log_odds(logits, subset_key(subset))[0]
    return values


def _direction(case: _Case, position: int) -> Tensor:
    """How the finding's calibrated log-odds change with the logits, [F]; calibration is asked, not repeated here."""
    logits = case.trace.fused.detach().cpu().double().numpy()
    steps = np.eye(logits.shape[1]) * _STEP
    ahead = case.calibration.log_odds(logits + steps, case.subset)[:, position]
    behind = case.calibration.log_odds(logits - steps, case.subset)[:, position]
    return torch.from_numpy((ahead - behind) / (2 * _STEP)).to(case.trace.fused)


def _by_gradient(
    case: _Case, position: int, *, last: bool
) -> tuple[tuple[ImageSaliency, ...], tuple[WordWeight, ...], tuple[ObservationWeight, ...]]:
    """Saliency, words and observations of one finding from one backward pass."""
    trace = case.trace
    traced = {"image": trace.image_map, "words": trace.embeddings, "values": trace.values}
    sources = {name: tensor for name, tensor in traced.items() if tensor is not None}
    target = (trace.fused[0] * _direction(case, position)).sum()
    gradients = dict(
        zip(sources, torch.autograd.grad(target, list(sources.values()), retain_graph=not last), strict=True)
    )
    images: tuple[ImageSaliency, ...] = ()
    words: tuple[WordWeight, ...] = ()
    observations: tuple[ObservationWeight, ...] = ()
    if trace.image_map is not None:
        images = saliency.image_saliency(
            trace.image_map.detach().float().cpu().numpy(),
            gradients["image"].float().cpu().numpy(),
            case.prepared.letterboxes,
        )
    if trace.embeddings is not None:
        encoder = case.model.encoders[Modality.TEXT.value]
        assert isinstance(encoder, TextEncoder)
        average = encoder.model.get_input_embeddings().weight.detach().mean(dim=0)
        pieces = ((trace.embeddings.detach() - average) * gradients["words"]).sum(-1)[0].float().cpu().numpy()
        read = worded.words_of(case.prepared.text, case.prepared.study.notes)
        words = worded.weighed(read, [pieces[where].sum() for _, where in read])
    if trace.values is not None:
        inputs = case.model.encoders[Modality.OBSERVATIONS.value]
        assert isinstance(inputs, ObservationsEncoder)
        typical = inputs.values(torch.zeros_like(case.batch.observations)).detach()
        by_feature = ((trace.values.detach() - typical) * gradients["values"]).sum(-1)[0].float().cpu().numpy()
        known = observed.known_features(case.prepared.observations)
        weights = {feature: float(by_feature[feature]) for feature in known}
        observations = observed.observation_weights(case.prepared, case.preprocessing.features, weights)
    return images, words, observations


@dataclass(frozen=True, slots=True, eq=False)
class _LeftOut:
    """Calibrated log-odds [N, F] with everything, and with each word and each observation masked in turn."""

    whole: npt.NDArray[np.float64]
    without_word: npt.NDArray[np.float64]
    without_feature: npt.NDArray[np.float64]

    @classmethod
    def of(cls, case: _Case) -> _LeftOut:
        read = worded.words_of(case.prepared.text, case.prepared.study.notes)
        known = observed.known_features(case.prepared.observations)
        text = case.batch.text_mask.repeat(max(1, len(read)), 1)
        for row, (_, where) in enumerate(read):
            text[row, torch.from_numpy(where)] = False
        values = case.batch.observation_mask.repeat(max(1, len(known)), 1)
        for row, feature in enumerate(known):
            values[row, feature] = False
        with torch.no_grad():
            without_word = cls._fused(case, Modality.TEXT, text) if read else case.trace.fused[:0]
            without_feature = cls._fused(case, Modality.OBSERVATIONS, values) if known else case.trace.fused[:0]
        return cls(case.log_odds(case.trace.fused), case.log_odds(without_word), case.log_odds(without_feature))

    @staticmethod
    def _fused(case: _Case, modality: Modality, masks: Tensor) -> Tensor:
        """Fused logits with one modality encoded anew under each of `masks` [N, T], the others as they were."""
        rows, batch = len(masks), case.batch
        tokens = {
            m: Tokens(said.values.expand(rows, -1, -1), said.mask.expand(rows, -1)) for m, said in case.tokens.items()
        }
        encoder = case.model.encoders[modality.value]
        inputs = batch.input_ids if modality is Modality.TEXT else batch.observations
        tokens[modality] = encoder(inputs.expand(rows, -1), masks)
        return case.model.fuse(tokens)

    def words(self, case: _Case, position: int) -> tuple[WordWeight, ...]:
        read = worded.words_of(case.prepared.text, case.prepared.study.notes)
        return worded.weighed(read, list(self.whole[0, position] - self.without_word[:, position]))

    def observations(self, case: _Case, position: int) -> tuple[ObservationWeight, ...]:
        known = observed.known_features(case.prepared.observations)
        change = self.whole[0, position] - self.without_feature[:, position]
        weights = {feature: float(weight) for feature, weight in zip(known, change, strict=True)}
        return observed.observation_weights(case.prepared, case.preprocessing.features, weights)
