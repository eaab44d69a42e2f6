from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from consilium.configuration.recipe import ReferRecipe
from consilium.domain.diagnosis import (
    ABSENT,
    PRESENT,
    AuditVerdict,
    Estimate,
    FindingResult,
    OperatingPoint,
    OutOfDistributionScore,
)
from consilium.domain.study import Patient
from consilium.referral.reasons import Grounds, refer, refer_by_part, refer_finding
from tests.consilium.tiny import FINDINGS, THREE, squares_of, tiny_preprocessing, tiny_recipe, tiny_study

POINT = OperatingPoint(0.5, 0.9, Estimate(0.9, 0.8, 1.0), Estimate(0.8, 0.7, 0.9))
SURE = ((PRESENT,), (ABSENT,))
BOTH, NONE = (ABSENT, PRESENT), ()


def _grounds(sets: tuple[tuple[str, ...], ...] = SURE, **changes: object) -> Grounds:
    """Of a study that nothing speaks against, but for `sets` and `changes`."""
    recipe = tiny_recipe()
    item = tiny_preprocessing(recipe).prepare(tiny_study(1))
    results = tuple(
        FindingResult(
            *(finding.name, finding.display, finding.code),
            *(0.6, True, POINT, {}, (0.5, 0.7), chosen, refer_finding(ReferRecipe(), chosen, 0.9)),
        )
        for finding, chosen in zip(FINDINGS, sets, strict=True)
    )
    ordinary = (
        OutOfDistributionScore("image", 0.1, 0.6, out_of_distribution=False),
        OutOfDistributionScore("fused", 0.1, 0.4, out_of_distribution=False),
    )
    grounds = Grounds(item, THREE, results, ordinary, AuditVerdict("sound"))
    return replace(grounds, **changes)


@pytest.fixture(scope="module")
def ordinary() -> Grounds:
    return _grounds()


def test_an_ordinary_study_may_be_answered_for(ordinary: Grounds) -> None:
    everything = ReferRecipe(required=THREE, audit=True)
    assert refer(everything, ordinary) == ()
    assert list(refer_by_part(everything, ordinary)) == [
        *("both", "out_of_distribution", "required", "image_quality", "unknown_origin", "contradictions", "audit")
    ]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ((PRESENT,), ()),
        ((ABSENT,), ()),
        (BOTH, ("Undetermined: neither answer can be ruled out at 90% coverage.",)),
        (NONE, ("Unlike either: neither answer fits at 90% coverage.",)),
    ],
)
def test_a_finding_is_referred_where_its_set_is_no_single_answer(
    chosen: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert refer_finding(ReferRecipe(), chosen, 0.9) == expected
    assert refer_finding(ReferRecipe(both=False), chosen, 0.9) == ()


@pytest.mark.parametrize("sets", [((PRESENT,), BOTH), (NONE, (ABSENT,))])
def test_a_study_with_a_finding_that_is_not_referred_is_not_referred(sets: tuple[tuple[str, ...], ...]) -> None:
    assert refer(ReferRecipe(), _grounds(sets)) == ()


@pytest.mark.parametrize("sets", [(BOTH, BOTH), (NONE, BOTH)])
def test_a_study_is_referred_where_no_finding_is_left(sets: tuple[tuple[str, ...], ...]) -> None:
    assert refer(ReferRecipe(), _grounds(sets)) == ("Every finding is referred.",)


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ("image", "The image is unlike the training data (p = 0.0012)."),
        ("text", "The text of the notes is unlike the training data (p = 0.0012)."),
        ("observations", "The set of observations is unlike the training data (p = 0.0012)."),
        ("fused", "The study as a whole is unlike the training data (p = 0.0012)."),
    ],
)
def test_what_is_out_of_distribution_is_referred_by_name(ordinary: Grounds, part: str, reason: str) -> None:
    unusual = replace(
        ordinary,
        out_of_distribution=(
            *ordinary.out_of_distribution,
            OutOfDistributionScore(part, 9.0, 0.00123, out_of_distribution=True),
        ),
    )
    assert refer(ReferRecipe(), unusual) == (reason,)
    assert refer(ReferRecipe(out_of_distribution=None), unusual) == ()


def test_an_absent_modality_is_referred_where_it_is_required(ordinary: Grounds) -> None:
    without = replace(ordinary, modalities=("observations",))
    assert refer(ReferRecipe(), without) == ()
    assert refer(ReferRecipe(required=("observations",)), without) == ()
    assert refer(ReferRecipe(required=THREE), without) == (
        "There is no image, which this model requires.",
        "There is no note, which this model requires.",
    )


def test_the_audits_verdict_is_referred_where_the_recipe_says_so(ordinary: Grounds) -> None:
    for verdict in ("suspect", "unusable"):
        audited = replace(ordinary, audit=AuditVerdict(verdict, ("The file format tells.",)))
        assert refer(ReferRecipe(), audited) == ()
        assert refer(ReferRecipe(audit=True), audited) == (
            f"The audit calls the cohort that this model was trained on {verdict}.",
        )
    assert refer(ReferRecipe(audit=True), replace(ordinary, audit=AuditVerdict())) == ()


def test_a_blank_image_is_referred(ordinary: Grounds) -> None:
    dark = ordinary.item.with_arrays("image", images=np.zeros_like(squares_of(ordinary.item)))
    blank = replace(ordinary, item=dark)
    assert refer(ReferRecipe(), blank) == ("The image is blank.",)
    assert refer(ReferRecipe(checks={"image_quality": False}), blank) == ()


def test_files_of_another_patient_or_of_something_else_are_referred(ordinary: Grounds) -> None:
    study = ordinary.item.study
    other = replace(study.parts["image"][0], patient=Patient(99, study.patient.sex))
    contradicted = replace(ordinary, item=replace(ordinary.item, study=study.with_parts(image=(other,))))
    assert refer(ReferRecipe(), contradicted) == ("images[0] gives the patient's age as 99, the record as 21.",)
    assert refer(ReferRecipe(contradictions=False), contradicted) == ()
    part = replace(ordinary.item.parts["image"], unknown_origin=("images[0]: body part KNEE",))
    knee = replace(ordinary, item=replace(ordinary.item, parts={**ordinary.item.parts, "image": part}))
    assert refer(ReferRecipe(), knee) == ("images[0]: body part KNEE.",)
    assert refer(ReferRecipe(checks={"unknown_origin": False}), knee) == ()


def test_a_check_that_no_modality_declares_is_refused() -> None:
    with pytest.raises(ValidationError, match="must be one of image_quality, unknown_origin"):
        ReferRecipe(checks={"image_qualty": False})
