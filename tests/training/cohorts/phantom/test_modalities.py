"""A phantom of other modalities: what the built-in ones were stays, and another one has streams of its own."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest

from consilium.domain.errors import InputError
from consilium.modalities import registry
from consilium.modalities.modality import Modality
from tests.conftest import ROOT
from training.cohorts import load_cohort
from training.cohorts.phantom import renderers
from training.cohorts.phantom.oracle import load_oracle
from training.cohorts.phantom.phantom_modality import Asked, GaussianPhantom, Row, Sent, Target, Written
from training.cohorts.phantom.record import Design, Drawn, Shift, draw_study, stream
from training.cohorts.phantom.renderers import DEFAULT_MODALITIES
from training.cohorts.phantom.write import write_phantom

SEED, STUDIES = 1, 40
DIGESTS = Path(__file__).with_name("seed_1.json")
"""SHA-256 of every file of a cohort of this seed, as the first version that wrote phantoms wrote them."""


class SignalPhantom(GaussianPhantom):
    """A number a study that depends on pneumothorax."""

    name = "signal"
    missing = 0.25
    shifts = MappingProxyType({"pneumothorax": {"pneumothorax": 2.0}})
    tables = MappingProxyType({"signals.csv": ("study", "level")})

    def render(self, design: Design, study: Drawn) -> float:
        noise = float(stream(design, study.index, "signal").normal(0, 0.1))
        return float(study.evidence.parts[self.name][0]) + noise

    def write(self, target: Target, rendered: float | None) -> Written:
        rows: list[Row] = [] if rendered is None else [{"study": target.study.study_id, "level": rendered}]
        return Written({}, rows={"signals.csv": rows})

    def request(self, asked: Asked) -> Sent:
        return Sent({"signal": self.render(asked.design, asked.study)})


MODALITY = Modality(name="signal", display="Signal", record="signal", preparation="", encoder="")


def _entry_points(*, group: str) -> EntryPoints:
    objects = {renderers.GROUP: "SignalPhantom", registry.GROUP: "MODALITY"}
    return EntryPoints([EntryPoint("signal", f"{__name__}:{objects[group]}", group)] if group in objects else [])


@pytest.fixture
def with_signal(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("consilium.system.installed.entry_points", _entry_points)
    registry.modalities.cache_clear()
    renderers.phantom_modalities.cache_clear()
    yield
    monkeypatch.undo()
    registry.modalities.cache_clear()
    renderers.phantom_modalities.cache_clear()


def _digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom") / "cohort"
    write_phantom(root, STUDIES, SEED, size=64, workers=1)
    return root


def test_the_bytes_of_a_seed_are_what_they_always_were(usual: Path) -> None:
    listed = json.loads(DIGESTS.read_text(encoding="utf-8"))
    first = {path: [digest] if isinstance(digest, str) else digest for path, digest in listed.items()}
    now = _digests(usual)
    assert len(first) == 85
    # NumPy's functions round otherwise with AVX-512 than without: of three images both digests are listed.
    assert [path for path, digest in first.items() if now.get(path) not in digest] == []
    assert now.keys() - first.keys() == {"truth/design.yaml", "truth/likelihoods.npz"}


@pytest.mark.usefixtures("with_signal")
def test_another_modality_changes_no_byte_of_the_others(usual: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    write_phantom(more, STUDIES, SEED, size=64, workers=1, modalities=[*DEFAULT_MODALITIES, "signal"])
    before, after = _digests(usual), _digests(more)
    described = {"truth/design.yaml", "truth/evidence.csv", "truth/likelihoods.npz"}
    assert {path for path in before if before[path] != after[path]} == described
    assert after.keys() - before.keys() == {"signals.csv"}
    old, new = load_oracle(usual), load_oracle(more)
    assert new.modalities == (*DEFAULT_MODALITIES, "signal")
    for key, values in old.posteriors.items():
        np.testing.assert_array_equal(new.posteriors[key], values)
    shared = list(old.evidence.columns)
    pd.testing.assert_frame_equal(new.evidence[shared], old.evidence)


@pytest.mark.usefixtures("with_signal")
def test_the_oracle_reads_another_modality_by_bayes_rule(tmp_path: Path) -> None:
    write_phantom(tmp_path / "cohort", STUDIES, SEED, size=64, workers=1, modalities=["image", "signal"])
    oracle = load_oracle(tmp_path / "cohort")
    level = oracle.evidence["signal:pneumothorax"].to_numpy()
    has = oracle.evidence["has:signal"].to_numpy(bool)
    assert 0 < (~has).sum() < STUDIES / 2
    prior = oracle.posterior(())[0, 3]
    likelihoods = [np.exp(-0.5 * (level - mean) ** 2) for mean in (2.0, 0.0)]
    expected = prior * likelihoods[0] / (prior * likelihoods[0] + (1 - prior) * likelihoods[1])
    np.testing.assert_allclose(oracle.posteriors["signal"][:, 3], np.where(has, expected, prior), rtol=1e-9)
    studies = pd.read_csv(tmp_path / "cohort" / "studies.csv")
    assert "note_history" not in studies
    assert studies["age"].isna().all()
    assert len(pd.read_csv(tmp_path / "cohort" / "signals.csv")) == has.sum()


def test_fewer_modalities_leave_the_rest_as_it_was(usual: Path, tmp_path: Path) -> None:
    fewer = tmp_path / "fewer"
    write_phantom(fewer, STUDIES, SEED, size=64, workers=1, modalities=["text", "observations"])
    assert not (fewer / "images").exists()
    cohort = load_cohort("phantom", fewer)
    assert not any(record.files["image"] for record in cohort.records)
    columns = ["note_history", "note_indication", "age", "label:pneumonia"]
    old, new = (pd.read_csv(root / "studies.csv", index_col="study")[columns] for root in (usual, fewer))
    evidence = load_oracle(usual).evidence
    same = evidence.index[(evidence["has:text"] == 1) | (evidence["has:observations"] == 1)]
    pd.testing.assert_frame_equal(old.loc[same], new.loc[same])
    assert load_oracle(fewer).evidence.filter(like="has:").any(axis=1).all()


@pytest.mark.usefixtures("with_signal")
def test_studies_of_every_cohort_keep_at_least_one_of_its_modalities() -> None:
    rates = {"image": 0.9, "signal": 0.9}
    design = Design(SEED, 64, shift=Shift(missing_modality=rates), modalities=("image", "signal"))
    states, model = design.states(), design.evidence()
    kept = [draw_study(design, index, states, model).evidence.modalities for index in range(300)]
    assert set(kept) <= {frozenset({"image"}), frozenset({"signal"}), frozenset({"image", "signal"})}
    assert min(sum("image" in one for one in kept), sum("signal" in one for one in kept)) > 60


def test_a_modality_without_a_renderer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="modalities: got 'signal', must be one of image, text, observations"):
        write_phantom(tmp_path / "cohort", 3, 1, 64, workers=1, modalities=["image", "signal"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("with_signal")
def test_two_renderers_of_one_modality_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint(name, f"{__name__}:SignalPhantom", renderers.GROUP) for name in ("a", "b")]
    monkeypatch.setattr(
        "consilium.system.installed.entry_points", lambda group: EntryPoints(points).select(group=group)
    )
    renderers.phantom_modalities.cache_clear()
    with pytest.raises(ValueError, match="two phantoms are of the modality 'signal'"):
        renderers.phantom_modalities()


def test_every_default_modality_has_a_folder_of_its_own() -> None:
    folder = ROOT / "training" / "cohorts" / "phantom"
    assert all((folder / name / "phantom.py").is_file() for name in DEFAULT_MODALITIES)


@pytest.mark.usefixtures("with_signal")
def test_another_modality_is_drawn_in_any_scheme_and_changes_no_byte_there_either(tmp_path: Path) -> None:
    for name, modalities in (("without", DEFAULT_MODALITIES), ("more", (*DEFAULT_MODALITIES, "signal"))):
        write_phantom(tmp_path / name, 30, SEED, size=64, workers=1, modalities=modalities, scheme="interaction")
    before, after = _digests(tmp_path / "without"), _digests(tmp_path / "more")
    described = {"truth/design.yaml", "truth/evidence.csv", "truth/likelihoods.npz"}
    assert {path for path in before if before[path] != after[path]} == described
    assert after.keys() - before.keys() == {"signals.csv"}
    old, new = load_oracle(tmp_path / "without"), load_oracle(tmp_path / "more")
    for key, values in old.posteriors.items():
        np.testing.assert_array_equal(new.posteriors[key], values)
    level, has = new.evidence["signal:pneumothorax"].to_numpy(), new.evidence["has:signal"].to_numpy(bool)
    prior = new.posterior(())[0, 3]
    odds = prior / (1 - prior) * np.exp(2.0 * level - 2.0)
    np.testing.assert_allclose(new.posteriors["signal"][:, 3], np.where(has, odds / (1 + odds), prior), rtol=1e-9)
