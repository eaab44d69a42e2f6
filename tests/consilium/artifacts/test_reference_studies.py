from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from consilium.api.schemas import DiagnoseRequest
from consilium.artifacts.artifact import Artifact
from consilium.artifacts.reference_studies import MOST, References, ReferenceStudy
from consilium.domain.diagnosis import ModelIdentity
from consilium.domain.errors import InputError
from consilium.inference.diagnostician import Diagnostician
from tests.consilium.tiny import FINDINGS
from tests.consilium.tiny_artifact import tiny_artifact


@pytest.fixture(scope="module")
def trained() -> Artifact:
    return tiny_artifact()


@pytest.fixture
def saved(trained: Artifact, tmp_path: Path) -> Path:
    trained.references.save(tmp_path / "reference", FINDINGS)
    return tmp_path / "reference"


def test_the_answers_are_those_of_each_study_by_itself(trained: Artifact) -> None:
    diagnostician = Diagnostician(trained, ModelIdentity("tiny", "1", "0" * 64))
    for reference, expected in zip(trained.references.studies, trained.references.probabilities, strict=True):
        (diagnosis,) = diagnostician.diagnose([reference.study()])
        assert [result.probability for result in diagnosis.findings] == pytest.approx(list(expected), abs=1e-6)


def test_what_was_saved_comes_back_to_the_bit(trained: Artifact, saved: Path) -> None:
    loaded = References.load(saved, FINDINGS)
    assert loaded.studies == trained.references.studies
    assert (loaded.probabilities == trained.references.probabilities).all()


def test_they_are_small_plain_files(saved: Path) -> None:
    files = list(saved.iterdir())
    assert {path.suffix for path in files} == {"", ".json"}
    assert sum(path.stat().st_size for path in files) < 1_000_000
    for path in saved.glob("*-images-*"):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_a_study_is_read_as_a_request_is(saved: Path) -> None:
    study = References.load(saved, FINDINGS).studies[-1]
    read = study.study()
    assert len(read.parts["image"]) == len(study.files["images"]) > 0
    assert [note.text for note in read.parts["text"]] == [note.text for note in study.request.notes]
    assert [o.given_value for o in read.parts["observations"]] == [o.value for o in study.request.observations]


def test_a_study_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="no usable record"):
        ReferenceStudy(DiagnoseRequest()).study()


def _rename(stored: dict[str, Any]) -> None:
    answers = stored["studies"][3]["probabilities"]
    answers["oedema"] = answers.pop("effusion")


SPOILED: dict[str, Callable[[dict[str, Any]], object]] = {
    "none": lambda stored: stored.update(studies=[]),
    "too many": lambda stored: stored.update(studies=stored["studies"][:1] * (MOST + 1)),
    "a path": lambda stored: stored["studies"][-1].update(files={"images": ["../model.safetensors"]}),
    "no probability": lambda stored: stored["studies"][0]["probabilities"].update(effusion=1.5),
    "an unknown key": lambda stored: stored["studies"][0].update(run="rm"),
    "no request": lambda stored: stored["studies"][0].update(request={"nots": []}),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_what_no_training_wrote_is_refused(saved: Path, kind: str) -> None:
    stored = json.loads((saved / "studies.json").read_text())
    SPOILED[kind](stored)
    (saved / "studies.json").write_text(json.dumps(stored))
    with pytest.raises(ValidationError):
        References.load(saved, FINDINGS)


def test_answers_to_other_findings_are_refused(saved: Path) -> None:
    stored = json.loads((saved / "studies.json").read_text())
    _rename(stored)
    (saved / "studies.json").write_text(json.dumps(stored))
    with pytest.raises(InputError, match="must be answers to pneumonia, effusion"):
        References.load(saved, FINDINGS)


def test_answers_are_probabilities_of_every_finding(trained: Artifact) -> None:
    probabilities = trained.references.probabilities
    assert probabilities.shape == (len(trained.references.studies), len(FINDINGS))
    assert ((probabilities > 0) & (probabilities < 1)).all()
    assert np.unique(probabilities[:, 0]).size == len(probabilities), "no two studies are alike"
