"""The whole comparison on a tiny phantom, and its peer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from consilium.artifacts.mlflow_store import open_store
from consilium.cli import main
from consilium.configuration.recipe import Recipe
from consilium.domain.errors import InputError, TrainingError
from consilium.network.fusion import TRAINED_FUSIONS
from consilium.preprocessing.collate import Preprocessing
from tests.consilium.tiny import FINDINGS, tiny_study
from tests.training.cohorts_made import tiny_training_recipe
from training.cohorts.phantom.write import write_phantom
from training.experiments.fusion_comparison import Comparison, Plan, compare_fusions
from training.experiments.fusion_comparison import experiment as run
from training.experiments.fusion_comparison.comparison_figure import comparison_figure
from training.experiments.fusion_comparison.comparison_output import save_comparison, terminal_tables
from training.experiments.fusion_comparison.transchex import Peer
from training.recipes import find_recipe

EVERYTHING = "image+text+observations"
BOUNDS = ("bound/best_possible", "bound/product_of_experts")
SMALL = ["name=fight", "training.epochs=1", "evaluation.bootstrap=20", "calibration.method=scaling"]
PLAN = Plan(seeds=2, end_to_end=1, peer=True)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantoms") / "phantom"
    # On so few test studies the bound may come out above the possible by chance; with this seed it does not.
    write_phantom(root, 160, seed=5, size=64, workers=1)
    return root


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        patch.setenv("CONSILIUM_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return find_recipe("phantom-tiny", SMALL)


@pytest.fixture(scope="module")
def comparison(phantom: Path, recipe: Recipe) -> Comparison:
    return compare_fusions(recipe, phantom, PLAN, progress=False)


def test_every_fusion_rule_ensemble_and_peer_has_its_rows(comparison: Comparison, phantom: Path) -> None:
    shares = comparison.tables["shares"]
    seeds = shares.groupby("contender")["seeds"].first().to_dict()
    assert {name: n for name, n in seeds.items() if name.startswith("fusion/")} == {
        f"fusion/{n}": 2 for n in TRAINED_FUSIONS
    }
    once = {name for name, n in seeds.items() if n == 1}
    (whole,) = (name for name in once if name.startswith("end_to_end/"))
    best = comparison.best.removeprefix("fusion/")
    assert once == {f"ensemble/{best}", whole, "peer/transchex", *BOUNDS}
    twice = {"end_to_end/late", "rule/sum_of_log_odds", "rule/product_of_experts", "rule/product_calibrated"}
    assert twice < set(seeds) - once
    studies = pd.read_csv(phantom / "studies.csv", dtype=str)
    tested = shares[(shares["subset"] == "as_present") & (shares["finding"] == "pneumonia")]
    assert set(tested["n"]) == {int((studies["split"] == "test").sum())}
    assert set(shares[shares["contender"] == "peer/transchex"]["subset"]) == {"image+text"}
    assert len(set(shares[(shares["subset"] == "image+text") & (shares["finding"] == "macro")]["n"])) == 1


def test_the_bound_of_experts_is_high_and_below_the_possible(comparison: Comparison) -> None:
    shares = comparison.tables["shares"]
    bound = shares[(shares["contender"] == "bound/product_of_experts") & (shares["finding"] == "macro")]
    by_subset = bound.set_index("subset")["information_share"]
    assert by_subset[["image", "text", "observations"]].tolist() == pytest.approx([1.0] * 3)
    assert 0.5 < by_subset[EVERYTHING] < 1.0
    best = shares[shares["contender"] == "bound/best_possible"]
    assert best["information_share"].dropna().to_numpy() == pytest.approx(1.0)


def test_cost_is_counted(comparison: Comparison) -> None:
    cost = comparison.tables["contenders"].set_index("contender")
    trained = [name for name in cost.index if not name.startswith(("rule/", "bound/"))]
    assert (cost.loc[trained, "seconds"] > 0).all()
    assert (cost.loc[trained, "parameters"] > 1000).all()
    assert cost.loc["end_to_end/late", "parameters"] > cost.loc["fusion/late", "parameters"]


def test_explaining_away_is_measured_on_the_studies_with_a_confounder(comparison: Comparison, phantom: Path) -> None:
    states = pd.read_csv(phantom / "truth" / "states.csv", dtype={"study": str})
    studies = pd.read_csv(phantom / "studies.csv", dtype=str)
    confounded = states.set_index("study").loc[studies["study"], ["scar", "large_heart"]].any(axis=1).to_numpy()
    expected = int((confounded & (studies["split"] == "test").to_numpy()).sum())
    away = comparison.tables["explaining_away"]
    away = away[(away["subset"] == "as_present") & (away["studies"] == "with_confounder")]
    assert set(away["n"]) == {expected}
    assert set(away["against"]) == {
        "rule/product_calibrated",
        "rule/product_of_experts",
        "rule/sum_of_log_odds",
        "bound/product_of_experts",
    }


def test_it_is_saved_shown_and_in_the_record(comparison: Comparison, tmp_path: Path) -> None:
    files = {file.name for file in save_comparison(comparison, tmp_path)}
    tables = {"contenders.csv", "shares.csv", "differences.csv", "explaining_away.csv"}
    assert files == tables | {"comparison.json", "comparison.png"}
    document = json.loads((tmp_path / "comparison.json").read_text())
    assert document["best"] == comparison.best
    assert len(document["tables"]["shares"]) == len(comparison.tables["shares"])
    client = open_store()
    (found,) = client.search_runs([client.get_experiment_by_name("consilium-fight-fusions").experiment_id])
    assert found.info.status == "FINISHED"
    expected = comparison.tables["shares"].query(
        "contender == 'fusion/early' and subset == 'image+text' and finding == 'macro'"
    )["nll"]
    assert found.data.metrics["fusion/early/image_text/nll"] == pytest.approx(expected.item())
    assert isinstance(comparison_figure(comparison), Figure)
    first, *_ = terminal_tables(comparison)
    assert first.row_count == len(comparison.tables["contenders"]) - 1  # all but the peer read everything


def test_resuming_trains_nothing_again_and_adds_what_is_new(
    comparison: Comparison, phantom: Path, recipe: Recipe, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    fit_fusion = run.fit_fusion

    def counted(recipe: Recipe, *rest: object) -> object:
        trained.append(recipe.fusion.name)
        return fit_fusion(recipe, *rest)

    monkeypatch.setattr(run, "fit_fusion", counted)
    monkeypatch.setattr(run, "fit_with_teachers", None)
    (folder,) = (home / "runs").glob("fight-fusions-*")
    (folder / "seed_8" / "fusion" / "gated" / "done.json").unlink()
    again = compare_fusions(recipe, phantom, PLAN, resume=True, progress=False)
    assert trained == ["gated"]
    for name in ("shares", "differences", "explaining_away"):
        pd.testing.assert_frame_equal(again.tables[name], comparison.tables[name])


def test_the_command_writes_json_and_files(
    comparison: Comparison, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [part for setting in SMALL for part in ("--set", setting)]
    options = ["--cohort", str(phantom), "--seeds", "1", "--resume", "--out", str(tmp_path / "out"), "--json"]
    assert main(["compare-fusions", "phantom-tiny", *settings, *options]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert {line["contender"] for line in answer["tables"]["contenders"]} >= {
        f"fusion/{name}" for name in TRAINED_FUSIONS
    }
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 10_000


def test_what_cannot_be_compared_is_refused(phantom: Path, recipe: Recipe) -> None:
    alone = recipe.model_copy(update={"modalities": {"text": recipe.modalities["text"]}})
    with pytest.raises(TrainingError, match="nothing to fuse"):
        compare_fusions(alone, phantom, Plan(seeds=1), progress=False)
    with pytest.raises(InputError, match="seeds"):
        Plan(seeds=0)


# --- the peer --------------------------------------------------------------------------------------------------------


def test_the_peer_is_built_without_a_network_and_reads_image_and_notes() -> None:
    recipe = tiny_training_recipe()
    preprocessing = Preprocessing.fit(recipe, [tiny_study(number) for number in range(30)])
    assert preprocessing.preparations["text"].tokenizer is not None
    torch.manual_seed(0)
    peer = Peer(recipe, FINDINGS, len(preprocessing.preparations["text"].tokenizer)).eval()
    items = [preprocessing.prepare(tiny_study(number)) for number in (1, 2)]
    with torch.no_grad():
        together = peer(preprocessing.collate(items))
        alone = torch.cat([peer(preprocessing.collate([item])) for item in items])
        other = preprocessing.collate(items)
        images = other.inputs["image"]["images"]
        images[:] = 1 - images
        assert not torch.allclose(peer(other), together, atol=1e-5)
        words = preprocessing.collate(items)
        pieces = words.inputs["text"]["input_ids"]
        pieces[:] = pieces.flip(1)
        assert not torch.allclose(peer(words), together, atol=1e-5)
    assert together.shape == (2, len(FINDINGS))
    # Its padding is attended to; notes are padded alike in any company.
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert np.isfinite(together.numpy()).all()
