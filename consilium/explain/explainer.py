"""An explanation of one study: what each modality brought, and what each modality makes of its own part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from consilium.calibration import Calibration
from consilium.domain.diagnosis import FindingExplanation
from consilium.domain.errors import InputError
from consilium.domain.findings import FindingSet
from consilium.explain.case import Case
from consilium.explain.methods import LEVELS, Method, default_methods, explanations, find_method
from consilium.explain.shapley import shapley
from consilium.modalities.registry import find_modality, in_order
from consilium.network.diagnosis_model import DiagnosisModel, Logits
from consilium.preprocessing.batch import Prepared
from consilium.preprocessing.collate import Preprocessing


def explain(
    model: DiagnosisModel,
    preprocessing: Preprocessing,
    calibration: Calibration,
    prepared: Prepared,
    findings: FindingSet,
    names: Sequence[str],
    level: str = "fast",
    methods: Mapping[str, str] | None = None,
) -> tuple[tuple[FindingExplanation, ...], Logits]:
    """The evidence for each of the findings `names`, and the logits of the forward pass that was explained.

    Parameters
    ----------
    methods : mapping of modality to method, optional
        In place of the defaults of `level`; see `consilium.explain.methods`.

    Raises
    ------
    InputError
        For an unknown finding, level, modality or method, or a method that `model` lacks the layers for.
    """
    if level not in LEVELS:
        raise InputError("level", level, f"must be one of {', '.join(LEVELS)}")
    positions = [findings.index(name) for name in names]
    chosen = _choose(preprocessing, level, methods or {})
    watched = {module for method in chosen.values() for module in method.watches(model)}
    units = units_of(prepared, preprocessing)
    case = Case.of(model, preprocessing, calibration, prepared, [*watched, model.fusion], units)
    weights = {
        modality: method.weigh(case, positions) for modality, method in chosen.items() if names and units[modality]
    }
    values = case.subset_log_odds()
    declared = explanations(weights)
    used = {modality: method.name for modality, method in chosen.items()}
    explained = []
    for row, position in enumerate(positions):
        by_subset = {subset: float(log_odds[position]) for subset, log_odds in values.items()}
        explained.append(
            FindingExplanation(
                finding=findings.findings[position].name,
                display=findings.findings[position].display,
                log_odds=by_subset[prepared.present],
                prior_log_odds=by_subset[frozenset()],
                modalities=shapley(by_subset),
                methods=used | {"modalities": "shapley"},
                parts={m: one.attributions(case, weights[m][row]) for m, one in declared.items()},
            )
        )
    return tuple(explained), _logits(case)


def units_of(prepared: Prepared, preprocessing: Preprocessing) -> dict[str, Sequence[Any]]:
    """What can be weighed of each explained modality of the recipe; empty where the study has nothing of it."""
    return {
        modality: one.units(prepared, preprocessing) if modality in prepared.present else ()
        for modality, one in explanations(preprocessing.recipe.modalities).items()
    }


def _choose(preprocessing: Preprocessing, level: str, named: Mapping[str, str]) -> dict[str, Method]:
    """The method of each explained modality that the model reads."""
    for modality in named:
        find_modality(modality, "explain")
    recipe = preprocessing.recipe
    chosen = default_methods(recipe.modalities, level) | {m: n for m, n in named.items() if m in recipe.modalities}
    return {modality: find_method(preprocessing, modality, chosen[modality]) for modality in in_order(chosen)}


def _logits(case: Case) -> Logits:
    """What `DiagnosisModel.forward` gives."""
    states = case.traced[case.model.fusion].detach()
    with torch.no_grad():
        unimodal = case.model.unimodal_logits(case.tokens)
        features = case.model.features(case.tokens, states)
        steps = case.model.steps(states)
    present = {modality: tokens.present for modality, tokens in case.tokens.items()}
    return Logits(case.fused.detach(), unimodal, present, features, steps)
