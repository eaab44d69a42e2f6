"""Which observations are evidence for a finding. Every method gives float [P, K]: P findings, K features of the study.

A value and what is no number of it (its category, that it is a limit) are one feature; how old it is and how it changed
are features of their own. Shapley values and leaving out compare with the feature not being known at all, a category
as a number; the gradient compares with the average patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import product

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from consilium.domain.study import Sex
from consilium.domain.variables import Variable, VariableTable
from consilium.explain.case import Case, Floats
from consilium.explain.methods import FAST, THOROUGH, Method, ModalityExplanation
from consilium.explain.shapley import shapley_weights
from consilium.formats.lab_notation import figure
from consilium.modalities.observations.encoder import ObservationsEncoder
from consilium.modalities.observations.features import Aspect, Course, Feature
from consilium.modalities.observations.observation import Observation
from consilium.modalities.observations.preparation import NUMBERS
from consilium.modalities.observations.presentation import ObservationWeight, Reference
from consilium.modalities.part import MASK
from consilium.modalities.tokens import Tokens
from consilium.preprocessing.batch import Prepared
from consilium.preprocessing.collate import Preprocessing

OBSERVATIONS = "observations"

MOST_EXACT = 8
"""Values up to which Shapley values are exact; beyond, they are sampled."""

_PERMUTATIONS = 32
_SEED = 0


def known_features(case: Case) -> Sequence[int]:
    """Positions of the features that the case's study has."""
    return case.units[OBSERVATIONS]


def gradient_x_value(case: Case, positions: Sequence[int]) -> Floats:
    """Gradient × (value's vector - that of the average patient), both as they enter the value's token.

    The average patient has the mean number, and of the categories a mixture by their shares in the training studies:
    what a rare category adds is weighed against what most patients have.
    """
    encoder = _encoder(case)
    apart = case.traced[OBSERVATIONS].detach() - encoder.average_values().detach()
    weights = [(apart * case.gradients(p)[OBSERVATIONS]).sum(-1)[0].float().cpu().numpy() for p in positions]
    return np.stack(weights).astype(np.float64)[:, list(known_features(case))]


def leave_one_out(case: Case, positions: Sequence[int]) -> Floats:
    """What the log-odds lose when one value is not known."""
    kept = ~np.eye(len(known_features(case)), dtype=bool)
    return (case.log_odds(case.fused) - log_odds_of_features(case, kept))[:, list(positions)].T


def shapley(case: Case, positions: Sequence[int]) -> Floats:
    """Shapley value of each value: its mean contribution over all orders in which the values could have come.

    The players are the values that the study has; v(S) is the log-odds when those of S are known, whatever the other
    modalities bring. The weights add up to what the values brought together. Exact for up to `MOST_EXACT` values;
    beyond, the mean over sampled permutations (Castro et al. 2009), each with its reverse, which lowers the variance
    (Mitchell et al. 2022, antithetic sampling). The sample is the same for every study of that many values.
    """
    players = len(known_features(case))
    return (_exact(case) if players <= MOST_EXACT else _sampled(case))[list(positions)]


def _exact(case: Case) -> Floats:
    players = len(known_features(case))
    subsets = np.array(list(product([False, True], repeat=players)))
    worth = log_odds_of_features(case, subsets)
    return np.stack([shapley_weights(subsets, player) @ worth for player in range(players)], axis=1)


def _sampled(case: Case) -> Floats:
    players = len(known_features(case))
    generator = np.random.default_rng((_SEED, players))
    drawn = np.stack([generator.permutation(players) for _ in range(_PERMUTATIONS // 2)])
    orders = np.concatenate([drawn, drawn[:, ::-1]])
    rank = np.argsort(orders, axis=1)
    known = rank[:, None] < np.arange(players + 1)[None, :, None]
    unique, row = np.unique(known.reshape(-1, players), axis=0, return_inverse=True)
    worth = log_odds_of_features(case, unique)[row].reshape(*known.shape[:2], -1)
    gained = np.diff(worth, axis=1)
    # Step k of an order is the gain of the player who came as number k.
    return np.take_along_axis(gained, rank[..., None], axis=1).mean(axis=0).T


def log_odds_of_features(case: Case, kept: npt.NDArray[np.bool_]) -> Floats:
    """Calibrated log-odds [N, F] where of the study's features only those of `kept` (bool [N, K]) are known."""
    own = case.batch.inputs[OBSERVATIONS][MASK]
    mask = np.zeros((len(kept), own.shape[1]), bool)
    mask[:, list(known_features(case))] = kept
    return log_odds_of_known(case, torch.from_numpy(mask).to(own.device))


def log_odds_of_known(case: Case, mask: Tensor) -> Floats:
    """Calibrated log-odds [N, F] where only the features of `mask` (bool [N, A]) are known."""
    inputs = case.batch.inputs[OBSERVATIONS]

    def encode(rows: slice) -> Tokens:
        known = mask[rows]
        repeated = {name: tensor.expand(len(known), -1) for name, tensor in inputs.items()}
        tokens: Tokens = _encoder(case)({**repeated, MASK: known})
        return tokens

    return case.log_odds_of_copies(OBSERVATIONS, encode, len(mask))


def _encoder(case: Case) -> ObservationsEncoder:
    encoder = case.model.encoders[OBSERVATIONS]
    assert isinstance(encoder, ObservationsEncoder)
    return encoder


def _named(
    prepared: Prepared, position: int, feature: Feature, variables: VariableTable, weight: float
) -> ObservationWeight:
    course, patient = prepared.parts[OBSERVATIONS].read[position], prepared.study.patient
    if course is None:
        if feature.variable == "age":
            return ObservationWeight("age", "Age", f"{patient.age:g}", "a", weight)
        return ObservationWeight("sex", "Sex", patient.sex.value, "", weight)
    variable = variables[feature.variable]
    display, value, unit = _ASPECTS[feature.aspect](course, variable, prepared.study.reference_time)
    reference = _reference(course.last, variable, patient.sex) if feature.aspect is Aspect.VALUE else None
    return ObservationWeight(variable.name, display, value, unit, weight, feature.aspect.value, reference)


def _last(course: Course, variable: Variable, reference_time: datetime | None) -> tuple[str, str, str]:
    del reference_time
    return variable.display, course.last.given_text, course.last.given_unit


def _age(course: Course, variable: Variable, reference_time: datetime | None) -> tuple[str, str, str]:
    hours = course.hours_old(reference_time)
    assert hours is not None
    return f"{variable.display}, measured before", figure(hours), "h"


def _change(course: Course, variable: Variable, reference_time: datetime | None) -> tuple[str, str, str]:
    del reference_time
    assert course.before is not None
    assert course.days_apart is not None
    display = f"{variable.display}, change per day"
    if course.last.category is not None:
        return display, f"{course.before.category} to {course.last.category}", ""
    return display, figure((course.last.value - course.before.value) / course.days_apart, "+"), variable.unit


_ASPECTS = {Aspect.VALUE: _last, Aspect.AGE: _age, Aspect.CHANGE: _change}
"""What is shown of each aspect: its name, value and unit."""


def _reference(observation: Observation, variable: Variable, sex: Sex) -> Reference | None:
    interval = variable.normal_range(sex)
    if interval is None:
        return None
    return Reference(observation.value, *interval, variable.unit, variable.log_scale)


def _units(prepared: Prepared, preprocessing: Preprocessing) -> tuple[int, ...]:
    del preprocessing
    return tuple(
        int(position) for position in np.flatnonzero(np.isfinite(prepared.parts[OBSERVATIONS].arrays[NUMBERS]))
    )


def _attributions(case: Case, weights: npt.NDArray) -> tuple[ObservationWeight, ...]:
    """The weights by feature, named as the caller sent the values."""
    features, variables = case.preprocessing.preparations[OBSERVATIONS].features, case.preprocessing.variables
    return tuple(
        _named(case.prepared, position, features[position], variables, float(weight))
        for position, weight in zip(known_features(case), weights, strict=True)
    )


EXPLANATION = ModalityExplanation(
    methods=(
        Method("gradient_x_value", gradient_x_value, fast=True),
        Method("leave_one_out", leave_one_out),
        Method("shapley", shapley),
    ),
    defaults={FAST: "gradient_x_value", THOROUGH: "shapley"},
    units=_units,
    attributions=_attributions,
    log_odds_keeping=log_odds_of_features,
)
