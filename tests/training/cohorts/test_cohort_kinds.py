"""Cohort kinds: found by name or by a folder's files, with options of their own, and what some offer beside studies."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import numpy as np
import pytest
from pydantic import Field

import training.cohorts as registry
from consilium.configuration.recipe import CohortRecipe, Recipe
from consilium.domain.errors import InputError, RecipeError
from tests.training.cohorts_made import tiny_cohort
from training.cohorts import cohort_kind, cohort_kinds, load_cohort, recognise_kind
from training.cohorts.cohort import Cohort
from training.cohorts.cohort_kind import CohortKind, CohortOptions
from training.cohorts.phantom.write import write_phantom


class WardOptions(CohortOptions):
    ward: str = "all"
    least_age: int = Field(default=0, ge=0)


def read_export(root: Path, options: WardOptions, mask_notes: bool) -> Cohort:
    assert mask_notes
    made = tiny_cohort(root)
    return Cohort(f"export of {options.ward}", made.findings, made.records, root, made.digest)


KIND = CohortKind(
    name="export",
    read=f"{__name__}:read_export",
    recognises=lambda root: (root / "export.txt").is_file(),
    options=WardOptions,
)


def _with_entry_points(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    points = [EntryPoint(name, f"{__name__}:KIND", registry.GROUP) for name in names]
    monkeypatch.setattr(
        "consilium.system.installed.entry_points", lambda group: EntryPoints(points).select(group=group)
    )
    cohort_kinds.cache_clear()


@pytest.fixture
def with_export(monkeypatch: pytest.MonkeyPatch):
    _with_entry_points(monkeypatch, "export")
    yield
    monkeypatch.undo()
    cohort_kinds.cache_clear()


@pytest.mark.usefixtures("with_export")
def test_a_kind_of_an_entry_point_reads_a_cohort_with_its_own_options(tmp_path: Path) -> None:
    chosen = CohortRecipe.model_validate({"kind": "export", "ward": "icu"})
    assert (chosen.kind, chosen.options) == ("export", {"ward": "icu"})
    assert load_cohort(chosen.kind, tmp_path, chosen.options).name == "export of icu"
    assert load_cohort("export", tmp_path).name == "export of all"


@pytest.mark.usefixtures("with_export")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wards": "icu"}, r"cohort\.wards: got 'icu', is no known key; the nearest is 'ward'"),
        ({"least_age": -1}, r"cohort\.least_age: got -1, .*greater than or equal to 0"),
        ({"ward": 3}, r"cohort\.ward: got 3, .*string"),
    ],
)
def test_options_are_checked_by_the_kind(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_cohort("export", tmp_path, options)


def test_options_travel_with_a_recipe_and_are_those_of_the_kind() -> None:
    recipe = Recipe.from_mapping(
        {"name": "covid", "modalities": {"image": {}}, "cohort": {"kind": "covid-chestxray", "strict": True}}
    )
    assert Recipe.from_mapping(recipe.model_dump(mode="json")) == recipe
    assert "strict: true" in recipe.to_yaml()
    with pytest.raises(RecipeError, match="the cohort kind phantom has no options"):
        cohort_kind("phantom").checked(recipe.cohort.options)


@pytest.mark.usefixtures("with_export")
def test_a_folder_is_recognised_by_its_files(tmp_path: Path) -> None:
    for name, files in {
        "export": ["export.txt", "studies.csv"],
        "covid-chestxray": ["metadata.csv"],
        "phantom": ["studies.csv", "truth/design.yaml"],
        "manifest": ["studies.csv"],
    }.items():
        for file in files:
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).touch()
        assert recognise_kind(tmp_path / name).name == name
    with pytest.raises(InputError, match=r"cohort: .* covid-chestxray, export, manifest, phantom"):
        recognise_kind(tmp_path)


def test_two_kinds_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _with_entry_points(monkeypatch, "export", "again")
    with pytest.raises(ValueError, match="two cohort kinds are called 'export'"):
        cohort_kinds()
    monkeypatch.undo()
    cohort_kinds.cache_clear()


def test_a_phantom_offers_an_oracle_a_truth_and_a_renderer_and_a_manifest_none(tmp_path: Path) -> None:
    root = tmp_path / "phantom"
    write_phantom(root, 3, seed=1, size=64, workers=1)
    manifest, phantom = cohort_kind("manifest"), cohort_kind("phantom")
    assert (manifest.load_oracle(root), manifest.load_truth(root), manifest.load_renderer(root)) == (None, None, None)
    oracle = phantom.load_oracle(root)
    assert oracle is not None
    assert list(oracle.study_ids) == ["S000000", "S000001", "S000002"]
    best = phantom.load_truth(root).modality_log_odds("S000001")
    whole = max(best, key=len)
    np.testing.assert_allclose(1 / (1 + np.exp(-best[whole])), oracle.posteriors["image+text+observations"][1])
    values = phantom.load_renderer(root).render("observations", "S000001")
    assert {value.variable for value in values} >= {"crp"}
