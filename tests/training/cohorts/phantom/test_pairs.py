"""The best possible scores of pairs of records: by hand, as a bound, and where a report repeats the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from consilium.modalities.image.section import ImageSection
from consilium.modalities.text.note import NoteKind
from consilium.modalities.text.section import TextSection
from tests.training.cohorts.phantom.sampling import DESIGN, likelihoods_of, sample
from training.cohorts.phantom.image.dictation import evidence_grades
from training.cohorts.phantom.image.phantom import ImagePhantom
from training.cohorts.phantom.oracle import PhantomOracle
from training.cohorts.phantom.pairs import PhantomPairs, load_pairs, mutual_scores
from training.cohorts.phantom.renderers import DEFAULT_MODALITIES, phantom_modalities
from training.cohorts.phantom.state import FINDINGS
from training.cohorts.phantom.write import write_phantom
from training.pretraining.retrieval import rank_own

HISTORY, REPORT = (
    TextSection(note_kinds=kinds) for kinds in ((NoteKind.HISTORY, NoteKind.INDICATION), (NoteKind.FINDINGS,))
)


def drawn_pairs(studies: int, seed: int) -> tuple[list[str], PhantomPairs]:
    """Pairs of studies that are drawn and not rendered."""
    _, readings = sample(studies, seed)
    ids = [f"S{number:06d}" for number in range(studies)]
    columns = [f"image:{channel}" for channel in ImagePhantom.shifts]
    evidence = pd.DataFrame(readings["image"], columns=columns, index=pd.Index(ids, name="study"))
    prior = DESIGN.states().prior
    oracle = PhantomOracle(np.array(ids), FINDINGS, DEFAULT_MODALITIES, prior, likelihoods_of(readings), evidence)
    return ids, PhantomPairs(oracle, phantom_modalities())


def test_mutual_scores_are_the_log_ratio_of_joint_and_product() -> None:
    prior = np.array([0.25, 0.75])
    one, other = np.log([[0.8, 0.2]]), np.log([[0.5, 0.1], [0.3, 0.3]])
    joint = 0.25 * 0.8 * 0.5 + 0.75 * 0.2 * 0.1
    alone = (0.25 * 0.8 + 0.75 * 0.2) * (0.25 * 0.5 + 0.75 * 0.1)
    found = mutual_scores(prior, one, other)
    assert found[0, 0] == pytest.approx(np.log(joint / alone))
    assert found[0, 1] == pytest.approx(0)  # the second record is as likely in either state


def test_no_other_score_ranks_own_records_higher() -> None:
    ids, pairs = drawn_pairs(800, 5)
    sections = {"image": ImageSection(), "text": HISTORY}
    best = rank_own(pairs.scores(ids, "image", "text", sections)).rank.mean()
    posteriors = [pairs.oracle.posterior([name]) for name in ("image", "text")]
    other = rank_own(-np.abs(posteriors[0][:, None] - posteriors[1][None]).sum(axis=2)).rank.mean()
    assert 0.66 < best < 0.78
    assert 0.6 < other < best


def test_a_report_fits_the_images_of_its_grades_alone() -> None:
    ids, pairs = drawn_pairs(300, 6)
    sections = {"image": ImageSection(), "text": REPORT}
    scores = pairs.scores(ids, "image", "text", sections)
    grades = evidence_grades(pairs.oracle.evidence.to_numpy())
    same = (grades[:, None] == grades[None]).all(axis=2)
    assert (scores[~same] < -1e8).all()
    assert (scores[same] > -1e8).all()
    assert same.diagonal().all()
    assert 0.5 < rank_own(scores).first.mean() < 1


def test_a_report_says_of_the_values_what_the_image_does() -> None:
    ids, pairs = drawn_pairs(100, 7)
    sections = {"image": ImageSection(), "text": REPORT, "observations": None}
    of_report = pairs.scores(ids, "text", "observations", sections)
    of_image = pairs.scores(ids, "image", "observations", sections)
    assert np.allclose(of_report, of_image)


def test_impressions_are_known_exactly_and_a_stored_cohort_has_pairs(tmp_path: Path) -> None:
    write_phantom(tmp_path / "phantom", 20, seed=2, size=64, workers=1)
    pairs = load_pairs(tmp_path / "phantom")
    section = TextSection(note_kinds=(NoteKind.IMPRESSION,))
    scores = pairs.scores(
        pairs.oracle.study_ids.tolist(), "text", "observations", {"text": section, "observations": None}
    )
    own = scores.diagonal()
    assert (own > -1e8).all()
    assert (rank_own(scores).rank > 0.5).all()
