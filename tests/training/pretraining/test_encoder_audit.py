"""The audit of encoders: a shortcut that is planted is found, and what is possible is no shortcut."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from consilium.domain.errors import TrainingError
from consilium.modalities.image.section import ImageSection
from tests.training.cohorts.phantom.test_pairs import HISTORY, drawn_pairs
from training.cohorts.phantom.pairs import PhantomPairs
from training.pretraining.embeddings import Embeddings
from training.pretraining.encoder_audit import (
    LEAK,
    SOUND,
    SUSPECT,
    WITHIN,
    AuditedStage,
    EncoderAudit,
    audit_encoders,
    require_no_shortcut,
)

STUDIES = 1200
SECTIONS = {"image": ImageSection(), "text": HISTORY}
SITES = ("north", "south", "harbour")


@pytest.fixture(scope="module")
def made() -> tuple[Any, PhantomPairs, np.ndarray]:
    """A cohort, its pairs, and the site of each study: its marker in the image, its headings in the note."""
    ids, pairs = drawn_pairs(STUDIES, 9)
    sites = np.random.default_rng(0).choice(SITES, STUDIES, p=[0.4, 0.35, 0.25])
    records = [
        SimpleNamespace(study_id=study, patient_id=study, source=site)
        for study, site in zip(ids, sites.tolist(), strict=True)
    ]
    return SimpleNamespace(cohort=SimpleNamespace(records=records)), pairs, sites


def audited(made: tuple[Any, PhantomPairs, np.ndarray], site: float, evidence: float, *, known: bool) -> EncoderAudit:
    """Of encoders that see the site and the evidence of either record so strongly."""
    cached, pairs, sites = made
    marks = np.stack([sites == name for name in SITES], axis=1).astype(np.float32)
    rng = np.random.default_rng(1)
    places = {}
    for name in SECTIONS:
        chances = pairs.oracle.posterior([name])
        seen = np.concatenate([site * marks, evidence * (chances - chances.mean(axis=0))], axis=1)
        # What neither side shares.
        seen = np.concatenate([seen, rng.normal(0, 0.3, (STUDIES, 6))], axis=1)
        places[name] = (seen / np.linalg.norm(seen, axis=1, keepdims=True)).astype(np.float32)
    embeddings = Embeddings(np.arange(STUDIES), places, places)
    stage = AuditedStage("notes", (("image", "text"),), SECTIONS, embeddings)
    return audit_encoders(cached, [stage], pairs if known else None, seed=0)


def test_marker_and_heading_aligned_by_site_are_a_leak(made: tuple[Any, PhantomPairs, np.ndarray]) -> None:
    audit = audited(made, site=3.0, evidence=1.0, known=True)
    assert audit.verdict == LEAK
    assert any("notes: image and text: mean rank better than the best possible" in leak for leak in audit.leaks)
    with pytest.raises(TrainingError, match="retrieval is better than the best possible"):
        require_no_shortcut(audit)
    figures = audit.retrieval.set_index("scope")
    assert figures.loc["all sources", "rank"] > figures.loc["all sources", "possible_rank"]
    assert figures.loc[WITHIN, "rank"] < figures.loc[WITHIN, "possible_rank"]
    assert audit.similarity["gap"].item() > 0.5


def test_without_an_oracle_the_source_makes_it_suspect(made: tuple[Any, PhantomPairs, np.ndarray]) -> None:
    audit = audited(made, site=3.0, evidence=1.0, known=False)
    assert audit.verdict == SUSPECT
    assert "the source was aligned" in audit.concerns[0]
    require_no_shortcut(audit)


def test_encoders_that_see_the_evidence_alone_are_sound(made: tuple[Any, PhantomPairs, np.ndarray]) -> None:
    audit = audited(made, site=0.0, evidence=2.0, known=True)
    assert audit.verdict == SOUND
    assert audit.concerns == ()
    figures = audit.retrieval.set_index("scope")
    assert 0.6 < figures.loc["all sources", "rank"] <= figures.loc["all sources", "possible_rank"]
    assert abs(audit.similarity["gap"].item()) < 0.02


def test_what_the_audit_found_is_json(made: tuple[Any, PhantomPairs, np.ndarray]) -> None:
    found = audited(made, site=0.0, evidence=2.0, known=False).to_json()
    assert found["verdict"] == SOUND
    assert {line["scope"] for line in found["retrieval"]} == {"all sources", WITHIN}
    assert "possible_r1" not in found["retrieval"][0]


def test_too_few_pairs_are_not_measured(made: tuple[Any, PhantomPairs, np.ndarray]) -> None:
    cached, pairs, _ = made
    places = {name: np.full((STUDIES, 4), np.nan, np.float32) for name in SECTIONS}
    stage = AuditedStage("notes", (("image", "text"),), SECTIONS, Embeddings(np.arange(STUDIES), places, places))
    audit = audit_encoders(cached, [stage], pairs, seed=0)
    assert audit.retrieval.empty
    assert audit.verdict == SOUND
