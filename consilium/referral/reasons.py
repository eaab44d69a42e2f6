"""Referral: what a physician must assess instead of the model. One rule, in the recipe's section ``refer``.

A finding is referred where its prediction set is not a single answer. A study is referred as a whole where it is out of
distribution, lacks a modality that is required, fails a check that a modality declares, has records that contradict
each other, where the audit says so, or where no finding is left that is not referred. Each part of the rule gives its
reasons.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from consilium.configuration.recipe import ReferRecipe
from consilium.domain.diagnosis import AuditVerdict, FindingResult, OutOfDistributionScore
from consilium.modalities.registry import find_modality
from consilium.modalities.typicality import typicality_of
from consilium.network.diagnosis_model import FUSED
from consilium.preprocessing.batch import Prepared

_SUSPICIOUS = ("suspect", "unusable")
_ALL_REFERRED = "Every finding is referred."
_FUSED_SUBJECT = "The study as a whole"


@dataclass(frozen=True, slots=True, eq=False)
class Grounds:
    """Everything that the rule looks at, of one study.

    Attributes
    ----------
    item : Prepared
    modalities : tuple of str
        The modalities that the study has and the model reads.
    findings : tuple of FindingResult
    out_of_distribution : tuple of OutOfDistributionScore
    audit : AuditVerdict
    """

    item: Prepared
    modalities: tuple[str, ...]
    findings: tuple[FindingResult, ...]
    out_of_distribution: tuple[OutOfDistributionScore, ...]
    audit: AuditVerdict


def refer_finding(rule: ReferRecipe, prediction_set: Sequence[str], coverage: float) -> tuple[str, ...]:
    """The reasons to refer this finding; empty where there is none.

    Parameters
    ----------
    prediction_set : sequence of str
        Of `ABSENT` and `PRESENT`.
    coverage : float
        At which it holds.
    """
    if not rule.both or len(prediction_set) == 1:
        return ()
    if prediction_set:
        return (f"Undetermined: neither answer can be ruled out at {coverage:.0%} coverage.",)
    return (f"Unlike either: neither answer fits at {coverage:.0%} coverage.",)


def refer(rule: ReferRecipe, grounds: Grounds) -> tuple[str, ...]:
    """The reasons to refer this study, a sentence each; empty where there is none."""
    return tuple(reason for part in refer_by_part(rule, grounds).values() for reason in part)


def refer_by_part(rule: ReferRecipe, grounds: Grounds) -> dict[str, tuple[str, ...]]:
    """The same by part of the rule, named as in the recipe; a part that is switched off has no reasons."""
    return {
        "both": (_ALL_REFERRED,) if all(result.refer_reasons for result in grounds.findings) else (),
        "out_of_distribution": _unusual(grounds.out_of_distribution) if rule.out_of_distribution is not None else (),
        "required": tuple(
            f"There is no {find_modality(modality).record}, which this model requires."
            for modality in rule.required
            if modality not in grounds.modalities
        ),
        **_checked(rule, grounds.item),
        "contradictions": _sentences(grounds.item.study.contradictions) if rule.contradictions else (),
        "audit": _audited(grounds.audit) if rule.audit else (),
    }


def _checked(rule: ReferRecipe, item: Prepared) -> dict[str, tuple[str, ...]]:
    """What the checks find, by name; those that are switched off find nothing."""
    return {name: reasons if rule.checks.get(name, True) else () for name, reasons in checked(item.parts).items()}


def checked(parts: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """What the checks of a study's prepared `parts` find, by name."""
    return {
        name: check(part) for modality, part in parts.items() for name, check in typicality_of(modality).checks.items()
    }


def _unusual(scores: Sequence[OutOfDistributionScore]) -> tuple[str, ...]:
    return tuple(
        f"{_subject(score.part)} is unlike the training data (p = {score.p_value:.2g})."
        for score in scores
        if score.out_of_distribution
    )


def _subject(part: str) -> str:
    return _FUSED_SUBJECT if part == FUSED else find_modality(part).sentence_subject


def _sentences(remarks: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{remark}." for remark in remarks)


def _audited(audit: AuditVerdict) -> tuple[str, ...]:
    if audit.verdict not in _SUSPICIOUS:
        return ()
    return (f"The audit calls the cohort that this model was trained on {audit.verdict}.",)
