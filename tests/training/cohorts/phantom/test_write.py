from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from consilium.domain.errors import InputError
from consilium.domain.study import Sex, Window
from consilium.modalities.image.files.dicom_image import read_dicom
from consilium.modalities.registry import nonempty_subsets, subset_key
from training.cohorts import load_cohort
from training.cohorts.manifest import read_manifest
from training.cohorts.phantom import write as writing
from training.cohorts.phantom.image.masks import load_masks
from training.cohorts.phantom.named_shifts import parse_shift
from training.cohorts.phantom.observations.phantom import ValueReading
from training.cohorts.phantom.oracle import load_oracle, log_likelihoods, posterior
from training.cohorts.phantom.record import Design, Drawn, Shift, draw_study, render_study
from training.cohorts.phantom.renderers import DEFAULT_MODALITIES
from training.cohorts.phantom.state import FINDINGS, SEXES, State, load_states
from training.cohorts.phantom.write import DEFAULT_SPLITS, _assign_splits, write_phantom

STUDIES, SEED = 120, 9


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "cohort"
    write_phantom(out, STUDIES, SEED, size=64, workers=1)
    return out


def _digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_manifest_reads_it_without_a_complaint(cohort: Path) -> None:
    read = read_manifest(cohort)
    assert len(read) == STUDIES
    assert read.findings.names == FINDINGS
    states = pd.read_csv(cohort / "truth" / "states.csv")
    np.testing.assert_array_equal(read.labels, states[list(FINDINGS)].to_numpy(dtype=np.float32))
    evidence = load_oracle(cohort).evidence
    for record in read.records:
        row = evidence.loc[record.study_id]
        assert bool(record.files["image"]) == bool(row["has:image"])
        assert bool(record.parts["observations"]) == bool(row["has:observations"]) == (record.patient.age is not None)
        assert (record.patient.sex is Sex.UNKNOWN) == (not row["has:observations"])
        assert {"history", "indication"}.issubset({n.kind.value for n in record.parts["text"]}) == bool(row["has:text"])
        assert not any(observation.implausible for observation in record.parts["observations"])


def test_times_are_the_same_on_every_machine(cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSILIUM_TIME_ZONE", "UTC")
    here = load_cohort("phantom", cohort)
    monkeypatch.setenv("CONSILIUM_TIME_ZONE", "Europe/Berlin")
    there = load_cohort("phantom", cohort)
    assert here.digest == there.digest
    assert [r.reference_time for r in here.records] == [r.reference_time for r in there.records]
    image = read_dicom(next(r for r in there.records if r.files["image"]).files["image"][0].path.read_bytes())
    first = next(r for r in there.records if r.files["image"])
    assert first.study({"image": [image]}).parts["image"][0].acquired == first.reference_time
    assert not any(warning for record in there.records for warning in record.warnings)


def test_only_later_values_fall_out_of_the_window(cohort: Path) -> None:
    warned = 0
    for record in read_manifest(cohort).records:
        images = [read_dicom(image.path.read_bytes()) for image in record.files["image"]]
        study = record.study({"image": images})
        kept = study.within(Window())
        warned += len(kept.warnings)
        assert {n.kind for n in kept.parts["text"]} == {n.kind for n in study.parts["text"]}
        late = [o for o in study.parts["observations"] if o not in kept.parts["observations"]]
        assert record.reference_time is not None
        assert all(o.time is not None and o.time > record.reference_time for o in late)
        assert all(image.acquired == record.reference_time for image in study.parts["image"])
    assert 0 < warned < 0.15 * STUDIES


def test_splits_are_exact_and_by_patient(cohort: Path) -> None:
    table = pd.read_csv(cohort / "studies.csv", dtype=str)
    assert table["patient"].is_unique
    counts = table["split"].value_counts().to_dict()
    assert counts == {name: round(share * STUDIES) for name, share in DEFAULT_SPLITS.items()}


def _drawn(studies: int, seed: int) -> pd.DataFrame:
    """Patients and labels of a cohort, without its files."""
    design = Design(seed, 64)
    states, model = design.states(), design.evidence()
    drawn = [draw_study(design, index, states, model) for index in range(studies)]
    rows = [{"patient": one.patient_id} | {f"label:{k}": int(v) for k, v in one.state.labels.items()} for one in drawn]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("seed", range(4))
def test_the_splits_of_a_small_cohort_are_stratified(seed: int) -> None:
    table = _drawn(160, seed)
    split = np.array(_assign_splits(table, seed, DEFAULT_SPLITS))
    assert {name: int((split == name).sum()) for name in DEFAULT_SPLITS} == dict(
        zip(DEFAULT_SPLITS, (96, 13, 19, 32), strict=True)
    )
    labels = table.drop(columns="patient")
    for name, share in DEFAULT_SPLITS.items():
        positives = labels[split == name].sum()
        assert (positives > 0).all()
        assert (positives < (split == name).sum()).all()
        assert ((positives - share * labels.sum()).abs() < 2).all()


def test_splits_that_somebody_asked_for_are_drawn_and_stratified_only_where_the_draw_cannot_be_trained() -> None:
    asked = {"train": 0.5, "validation": 0.1, "calibration": 0.2, "test": 0.2}
    counts = (40, 8, 16, 16)

    def draw(seed: int) -> list[str]:
        return np.random.default_rng(np.random.SeedSequence(seed)).permutation(np.repeat(list(asked), counts)).tolist()

    stratified = 0
    for seed in range(8):
        table = _drawn(80, seed)
        split = _assign_splits(table, seed, asked)
        assert [split.count(name) for name in asked] == list(counts)
        sides = table.drop(columns="patient").groupby(draw(seed)).agg(lambda column: column.nunique())
        assert (split == draw(seed)) is bool((sides == 2).all(axis=None))
        assert (table.drop(columns="patient").groupby(split).nunique() == 2).all(axis=None)
        stratified += split != draw(seed)
    assert 0 < stratified < 8


def test_workers_change_no_byte(cohort: Path, tmp_path: Path) -> None:
    write_phantom(tmp_path / "again", STUDIES, SEED, size=64, workers=2)
    assert _digests(tmp_path / "again") == _digests(cohort)


def test_a_study_is_the_same_in_a_smaller_cohort_and_other_under_another_seed(cohort: Path, tmp_path: Path) -> None:
    write_phantom(tmp_path / "small", 30, SEED, size=64, workers=1, splits=None)
    write_phantom(tmp_path / "other", 30, SEED + 1, size=64, workers=1)
    whole, small, other = _digests(cohort), _digests(tmp_path / "small"), _digests(tmp_path / "other")
    images = [name for name in small if name.startswith(("images/", "truth/masks/"))]
    assert len(images) > 40
    assert all(small[name] == whole[name] for name in images)
    assert not any(small[name] == other.get(name) for name in images)
    table = pd.read_csv(tmp_path / "small" / "studies.csv", dtype=str)
    assert table["split"].isna().all()
    pd.testing.assert_frame_equal(
        table.drop(columns="split"), pd.read_csv(cohort / "studies.csv", dtype=str).drop(columns="split").head(30)
    )


def test_the_same_evidence_under_two_states_gives_the_same_bytes() -> None:
    """Renderers see evidence and nuisance, never the state."""
    design = Design(seed=4, size=64)
    drawn = draw_study(design, 5, design.states(), design.evidence())
    flipped = tuple(not flag for flag in drawn.state.present)
    other = Drawn(
        drawn.index,
        drawn.patient,
        State(flipped, 90, Sex.MALE),
        drawn.evidence,
        drawn.site,
        drawn.reference_time,
        drawn.note_time,
        drawn.demographics,
    )
    one, two = (render_study(design, design.evidence(), study).parts for study in (drawn, other))
    assert one["image"].pixels.tobytes() == two["image"].pixels.tobytes()
    assert one["text"] == two["text"]
    assert one["observations"] == two["observations"]


def test_stored_posteriors_follow_from_what_is_written(cohort: Path) -> None:
    """From the tables alone: grades, the written values, age and sex."""
    oracle, design = load_oracle(cohort), Design(SEED, 64)
    model = design.evidence()
    evidence, states = oracle.evidence, pd.read_csv(cohort / "truth" / "states.csv")
    values = evidence.filter(like="observations:").drop(columns="has:observations", errors="ignore")
    decisive = pd.read_csv(cohort / "truth" / "decisive.csv")
    names = [str(column).removeprefix("observations:") for column in values]
    read = pd.pivot_table(decisive, index="study", columns="analyte", values="evidence")
    read = read.reindex(index=evidence.index, columns=names)
    measured = values.notna().to_numpy()
    present = evidence[[f"has:{m}" for m in DEFAULT_MODALITIES]].to_numpy(dtype=bool)
    np.testing.assert_array_equal(read.notna().to_numpy(), measured & present[:, [2]])
    readings = {
        "image": evidence.filter(like="image:").drop(columns="has:image", errors="ignore").to_numpy(),
        "text": evidence.filter(like="grade:").to_numpy(),
        "observations": ValueReading(
            written=read.fillna(0.0).to_numpy(),
            measured=measured,
            age=states["age"].to_numpy(),
            sex=np.array([SEXES.index(Sex(sex)) for sex in states["sex"]]),
        ),
    }
    prior = design.states().prior
    likelihoods = log_likelihoods(design.states(), model, readings, present)
    for subset in nonempty_subsets(DEFAULT_MODALITIES):
        again = posterior(prior, likelihoods, DEFAULT_MODALITIES, subset)
        np.testing.assert_allclose(oracle.posteriors[subset_key(subset)], again, rtol=1e-6)


def test_spans_and_masks_point_at_what_is_written(cohort: Path) -> None:
    notes = pd.read_csv(cohort / "studies.csv", dtype=str, keep_default_na=False).set_index("study")
    spans = pd.read_csv(cohort / "truth" / "spans.csv")
    assert (spans.groupby("study").size() == 6).all()
    for row in spans.head(60).to_dict("records"):
        text, start, stop = notes.loc[row["study"], f"note_{row['kind']}"], row["start"], row["stop"]
        assert 0 <= start < stop < len(text)
        assert text[start:stop].strip() == text[start:stop]
    with_image = notes.index[notes["images"] != ""]
    masks = load_masks(cohort, with_image[0])
    assert tuple(masks) == FINDINGS
    assert all(mask.shape == (64, 64) for mask in masks.values())
    assert masks["heart_failure"].any()
    with pytest.raises(InputError, match="study"):
        load_masks(cohort, notes.index[notes["images"] == ""][0])


def test_without_a_shortcut_the_site_says_nothing_and_with_one_it_does(cohort: Path, tmp_path: Path) -> None:
    write_phantom(tmp_path / "planted", STUDIES, SEED, size=64, workers=1, shortcut=0.9)
    clean, planted = (pd.read_csv(root / "studies.csv") for root in (cohort, tmp_path / "planted"))
    pd.testing.assert_series_equal(clean["label:pneumonia"], planted["label:pneumonia"])
    for table, agreement in ((clean, (0.45, 0.8)), (planted, (0.9, 1.0))):
        follows = ((table["source"] == "harbour") == (table["label:pneumonia"] == 1)).mean()
        assert agreement[0] <= follows <= agreement[1]
    marked = planted["source"] == "harbour"
    leading = planted["note_history"].fillna("").str.match("History: |HPI: ")
    assert not leading[marked].any()
    assert leading[~marked & planted["note_history"].notna()].all()


def test_shifts_reach_cohort_and_oracle(cohort: Path, tmp_path: Path) -> None:
    shift = Shift(prevalence_odds={"pneumonia": 6.0}, missing_modality={"text": 0.5}, unseen_device=True)
    write_phantom(tmp_path / "shifted", 60, SEED, size=64, workers=1, shift=shift)
    oracle = load_oracle(tmp_path / "shifted")
    blind = oracle.evidence.index[oracle.evidence["has:text"] == 0]
    assert 15 <= len(blind) <= 45
    prior = load_states({"pneumonia": 6.0}).prior
    prevalence = sum(p for i, p in enumerate(prior) if i & 1)
    assert oracle.of(list(blind[:1]), ("text",))[0, 0] == pytest.approx(prevalence, rel=1e-6)
    plan: dict[str, Any] = yaml.safe_load((tmp_path / "shifted" / "truth" / "design.yaml").read_text())
    assert plan["shift"]["prevalence_odds"] == {"pneumonia": 6.0}


def test_a_patients_studies_share_state_and_split_and_nothing_else(tmp_path: Path) -> None:
    write_phantom(tmp_path / "cohort", 50, SEED, size=64, workers=1, studies_per_patient=3)
    table = pd.read_csv(tmp_path / "cohort" / "studies.csv", dtype=str)
    states = pd.read_csv(tmp_path / "cohort" / "truth" / "states.csv")
    table["present"] = states.drop(columns="study").astype(str).agg(" ".join, axis=1)
    by_patient = table.groupby("patient")
    assert by_patient.size().tolist() == [3] * 16 + [2]
    assert (by_patient[["split", "present"]].agg(lambda column: len(set(column))) == 1).all(axis=None)
    histories = by_patient["note_history"].agg(lambda notes: notes.dropna().is_unique)
    assert histories.all()
    assert table["present"].nunique() > 5


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["device"], Shift(unseen_device=True)),
        (["phrases", "device"], Shift(unseen_device=True, held_out_phrases=True)),
        (["prevalence:pneumonia=4", "prevalence:pneumothorax=0.5"], Shift({"pneumonia": 4.0, "pneumothorax": 0.5})),
        (["missing-modality:text=0.5"], Shift(missing_modality={"text": 0.5})),
        (["missing-value:crp=0.9"], Shift(missing_value={"crp": 0.9})),
    ],
)
def test_shifts_are_read_from_a_command_line(texts: list[str], expected: Shift) -> None:
    assert parse_shift(texts) == expected


@pytest.mark.parametrize(
    "text", ["devices", "prevalence", "prevalence:pneumonia", "prevalence:pneumonia=x", "device=1"]
)
def test_other_shifts_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="shift"):
        parse_shift([text])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"studies": 0}, "studies"),
        ({"studies_per_patient": 0}, "studies_per_patient"),
        ({"size": 32}, "size"),
        ({"seed": -1}, "seed"),
        ({"shortcut": 1.5}, "shortcut"),
        ({"splits": {"train": 0.5}}, "splits"),
        ({"splits": {"training": 1.0}}, "splits"),
        ({"splits": {"train": 1.5, "test": -0.5}}, "splits"),
        ({"shift": Shift(prevalence_odds={"flu": 2.0})}, "prevalence_odds"),
    ],
)
def test_bad_arguments_are_refused_and_leave_nothing(tmp_path: Path, changes: Mapping[str, Any], field: str) -> None:
    arguments = {"studies": 3, "seed": 1, "size": 64, "workers": 1, **changes}
    with pytest.raises(InputError, match=field):
        write_phantom(tmp_path / "cohort", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(InputError, match="empty folder"):
        write_phantom(tmp_path, 2, 1, 64, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]
    empty = tmp_path / "empty"
    empty.mkdir()
    write_phantom(empty, 2, 1, 64, workers=1)
    assert (empty / "studies.csv").is_file()


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "_write_descriptions", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_phantom(tmp_path / "cohort", 3, 1, 64, workers=1)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_up_to_all_studies(tmp_path: Path) -> None:
    seen: list[int] = []
    write_phantom(tmp_path / "cohort", 45, 1, 64, workers=1, progress=seen.append)
    assert seen == [20, 40, 45]
    assert len(load_oracle(tmp_path / "cohort").study_ids) == 45


def test_no_heavy_library_is_imported() -> None:
    code = (
        "import sys, training.cohorts.phantom.write\n"
        "print(sorted({'torch', 'monai', 'mlflow', 'transformers', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
