from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

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
from consilium.modalities.image.letterbox import Letterbox
from consilium.modalities.registry import modality_names
from consilium.referral.reasons import PARTS, Grounds, image_faults, refer, refer_by_part, refer_finding
from tests.consilium.tiny import FINDINGS, squares_of, tiny_preprocessing, tiny_recipe, tiny_study

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
    grounds = Grounds(item, modality_names(), results, ordinary, AuditVerdict("sound"))
    return replace(grounds, **changes)


@pytest.fixture(scope="module")
def ordinary() -> Grounds:
    return _grounds()


def test_an_ordinary_study_may_be_answered_for(ordinary: Grounds) -> None:
    everything = ReferRecipe(required=modality_names(), audit=True)
    assert refer(everything, ordinary) == ()
    assert tuple(refer_by_part(everything, ordinary)) == PARTS


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ((PRESENT,), ()),
        ((ABSENT,), ()),
        (BOTH, ("The model cannot tell: neither answer can be ruled out at 90% coverage.",)),
        (NONE, ("The study is unlike either: neither answer fits at 90% coverage.",)),
    ],
)
def test_a_finding_is_referred_where_its_set_is_no_single_answer(
    chosen: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert refer_finding(ReferRecipe(), chosen, 0.9) == expected
    assert refer_finding(ReferRecipe(both=False), chosen, 0.9) == ()


@pytest.mark.parametrize("sets", [((PRESENT,), BOTH), (NONE, (ABSENT,))])
def test_a_study_is_heard_on_the_finding_that_is_left(sets: tuple[tuple[str, ...], ...]) -> None:
    assert refer(ReferRecipe(), _grounds(sets)) == ()


@pytest.mark.parametrize("sets", [(BOTH, BOTH), (NONE, BOTH)])
def test_a_study_is_referred_where_no_finding_is_left(sets: tuple[tuple[str, ...], ...]) -> None:
    assert refer(ReferRecipe(), _grounds(sets)) == ("There is no finding that the model can tell.",)


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ("image", "The image is unlike the training data (p = 0.0012)."),
        ("text", "The text of the notes is unlike the training data (p = 0.0012)."),
        ("observations", "What was observed is unlike the training data (p = 0.0012)."),
        ("fused", "The study as a whole is unlike the training data (p = 0.0012)."),
    ],
)
def test_what_is_novel_is_referred_by_name(ordinary: Grounds, part: str, reason: str) -> None:
    novel = replace(
        ordinary, novelty=(*ordinary.novelty, OutOfDistributionScore(part, 9.0, 0.00123, out_of_distribution=True))
    )
    assert refer(ReferRecipe(), novel) == (reason,)
    assert refer(ReferRecipe(novelty=None), novel) == ()


def test_an_absent_modality_is_referred_where_it_is_required(ordinary: Grounds) -> None:
    without = replace(ordinary, modalities=("observations",))
    assert refer(ReferRecipe(), without) == ()
    assert refer(ReferRecipe(required=("observations",)), without) == ()
    assert refer(ReferRecipe(required=modality_names()), without) == (
        "There is no image, and this model must not answer without.",
        "There is no note, and this model must not answer without.",
    )


def test_the_audits_verdict_is_referred_where_the_recipe_says_so(ordinary: Grounds) -> None:
    for verdict in ("suspect", "unusable"):
        audited = replace(ordinary, audit=AuditVerdict(verdict, ("The file format tells.",)))
        assert refer(ReferRecipe(), audited) == ()
        assert refer(ReferRecipe(audit=True), audited) == (
            f"The audit calls the cohort that this model learned from {verdict}.",
        )
    assert refer(ReferRecipe(audit=True), replace(ordinary, audit=AuditVerdict())) == ()


def test_a_blank_image_is_referred(ordinary: Grounds) -> None:
    dark = ordinary.item.with_arrays("image", images=np.zeros_like(squares_of(ordinary.item)))
    blank = replace(ordinary, item=dark)
    assert refer(ReferRecipe(), blank) == ("The image is blank.",)
    assert refer(ReferRecipe(image_quality=False), blank) == ()


def _square(pixels: np.ndarray) -> tuple[np.ndarray, Letterbox]:
    box = Letterbox(*pixels.shape, 128)
    return box.forward(pixels), box


def _film(side: int = 128, white: float = 0.0, black: float = 0.0, flat: float = 0.0) -> np.ndarray:
    """A grey slope, of which shares of the columns are white, black, or (in the middle) of one grey."""
    film = np.tile(np.linspace(1000, 60000, side).astype(np.uint16), (side, 1))
    film[:, side - round(white * side) :] = 65535
    film[:, : round(black * side)] = 0
    start = round((1 - flat) / 2 * side)
    film[:, start : start + round(flat * side)] = 30000
    return film


@pytest.mark.parametrize(
    ("film", "fault"),
    [
        (_film(), ""),
        (np.full((100, 100), 40000, np.uint16), "is blank"),
        (_film(flat=0.9), ""),
        (_film(flat=0.97), "is blank"),
        (_film(white=0.2), ""),
        (_film(white=0.3), "is saturated: white where it should show something"),
        (_film(black=0.7), ""),
        (_film(black=0.8), "is saturated: black where it should show something"),
        (_film(64), ""),
        (_film(60), "is too small: 60 by 60 pixels, the model looks at 128"),
    ],
)
def test_image_faults(film: np.ndarray, fault: str) -> None:
    square, box = _square(film)
    assert image_faults([square], [box]) == ((f"The image {fault}.",) if fault else ())


def test_the_margins_of_a_narrow_image_are_no_fault() -> None:
    narrow = _film()[:, ::6]
    square, box = _square(narrow)
    assert (square == 0).mean() > 0.75
    assert image_faults([square], [box]) == ()


def test_the_faulty_one_of_several_images_is_named() -> None:
    squares, boxes = zip(*[_square(_film()), _square(_film(60)), _square(np.zeros((80, 80), np.uint16))], strict=True)
    faults = image_faults(squares, boxes)
    assert [fault[:7] for fault in faults] == ["Image 2", "Image 3"]


def test_files_of_another_patient_or_of_something_else_are_referred(ordinary: Grounds) -> None:
    study = ordinary.item.study
    other = replace(study.images[0], patient=Patient(99, study.patient.sex))
    contradicted = replace(ordinary, item=replace(ordinary.item, study=study.with_parts(image=(other,))))
    assert refer(ReferRecipe(), contradicted) == ("images[0] gives the patient's age as 99, the record as 21.",)
    assert refer(ReferRecipe(contradictions=False), contradicted) == ()
    part = replace(ordinary.item.parts["image"], unknown_origin=("images[0]: body part KNEE",))
    knee = replace(ordinary, item=replace(ordinary.item, parts={**ordinary.item.parts, "image": part}))
    assert refer(ReferRecipe(), knee) == ("images[0]: body part KNEE.",)
    assert refer(ReferRecipe(unknown_origin=False), knee) == ()
