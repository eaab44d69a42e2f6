"""From a cohort to registered encoders, and from these to a supervised training."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from consilium.artifacts import model_registry as registry
from consilium.artifacts.mlflow_store import open_store
from consilium.artifacts.pretrained_encoders import load_encoders, resolve_encoders
from consilium.cli import main
from consilium.configuration.pretraining_stages import recipe_of_stages
from consilium.configuration.recipe import Recipe
from consilium.domain.errors import ArtifactError, InputError, TrainingError
from consilium.domain.study import Study
from consilium.inference.search_index import Query, Searcher
from consilium.modalities.text.note import Note, NoteKind
from tests.training.cohorts_made import Sink
from training.cohorts.phantom.write import write_phantom
from training.cohorts.splits import split_unlabelled
from training.data.cached_cohort import cache_cohort
from training.pipeline.train import train
from training.pretraining import few_shot
from training.pretraining import pretrain as pipeline
from training.pretraining.encoder_audit import EncoderAudit
from training.pretraining.fit_encoders import fit_encoders
from training.pretraining.indexing import index_cohort
from training.pretraining.measured import FEW_SHOT, ZERO_SHOT, measure_encoders, read_cohort
from training.pretraining.pretrain import RegisteredEncoders, pretrain
from training.pretraining.pretraining_module import PretrainingModule
from training.recipes import find_recipe

STAGES = [
    {"name": "reports", "modalities": {"text": {"note_kinds": ["findings"]}}, "epochs": 2},
    {"name": "notes", "epochs": 1},
]


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantoms") / "phantom"
    write_phantom(root, 160, seed=3, size=64, workers=1)
    return root


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        patch.setenv("CONSILIUM_HOME", str(folder))
        patch.setattr(few_shot, "_DRAWS", 2)
        yield folder


def recipe(name: str, **pretraining: object) -> Recipe:
    data = find_recipe("phantom-tiny", ["evaluation.bootstrap=20", "training.epochs=1"]).model_dump(mode="json")
    section = {"objectives": {"clip": 1.0, "masked_values": 0.1}, "batch_size": 16, "width": 16, "stages": STAGES}
    return Recipe.from_mapping(data | {"name": name, "pretraining": section | pretraining})


@pytest.fixture(scope="module")
def made(phantom: Path) -> RegisteredEncoders:
    return pretrain(recipe("tiny"), phantom, progress=False)


def test_ends_in_a_registered_challenger_with_its_record(made: RegisteredEncoders):
    version = registry.describe(made.name, made.version)
    assert made.uri == "models:/consilium-encoders-tiny/1"
    assert version.aliases == ("challenger",)
    assert version.tags["audit"] == made.audit.verdict
    resolved = resolve_encoders("models:/consilium-encoders-tiny@challenger")
    assert resolved.identity.manifest_digest == version.manifest_digest
    run = open_store().get_run(made.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["pretraining.batch_size"] == "16"
    names = {file.path for file in open_store().list_artifacts(made.run_id, "evaluation")}
    assert {"evaluation/encoder_audit.json", "evaluation/zero_shot.csv", "evaluation/few_shot.csv"} <= names
    assert "retrieval/reports/image_text/all_sources/r10" in run.data.metrics


def test_each_stage_is_audited_as_its_records_were_read(made: RegisteredEncoders):
    figures = made.audit.retrieval.set_index(["stage", "pair", "scope"])["possible_rank"]
    # A report can be found nearly always, a history seldom.
    assert figures["reports", "image+text", "all sources"] > 0.98
    assert 0.5 < figures["notes", "image+text", "all sources"] < 0.9


def test_the_card_tells_stages_audit_and_what_they_can_do(made: RegisteredEncoders):
    card = (made.folder / "card.md").read_text()
    for text in ("| reports |", f"Verdict: **{made.audit.verdict}**", "## Zero-shot", "possible rank", "MLflow run"):
        assert text in card
    assert "S000001" not in "".join(file.read_text() for file in made.folder.rglob("*.json"))


def test_registered_encoders_measure_as_they_did_when_they_were_made(made: RegisteredEncoders, phantom: Path):
    again = measure_encoders(made.uri, phantom)
    for name in (ZERO_SHOT, FEW_SHOT):
        pd.testing.assert_frame_equal(again[name], made.tables[name], atol=1e-6)


def test_registered_encoders_are_not_served_as_a_model(made: RegisteredEncoders):
    with pytest.raises(InputError, match="must be a model; what is registered are pretrained encoders"):
        registry.resolve(made.uri)
    assert load_encoders(resolve_encoders(made.uri).folder).recipe.name == "encoders-tiny"


def test_an_index_finds_a_study_by_its_own_records(made: RegisteredEncoders, phantom: Path, tmp_path: Path):
    index_cohort(made.uri, phantom, tmp_path / "index")
    searcher = Searcher.load(tmp_path / "index")
    assert searcher.index.source == made.uri
    studies = pd.read_csv(phantom / "studies.csv", dtype=str, keep_default_na=False)
    row = studies[(studies["images"] != "") & (studies["note_findings"] != "")].iloc[0]
    found = searcher.search(Study({"text": (Note(NoteKind.FINDINGS, row["note_findings"]),)}), Query(3))
    assert found.modalities == ("text",)
    assert f"models:/{found.encoders.name}/{found.encoders.version}" == made.uri
    assert found.index_digest == hashlib.sha256((tmp_path / "index" / "manifest.json").read_bytes()).hexdigest()
    assert len(found.cases) == len(found.sentences) == 3
    everything = pd.concat([studies[name] for name in studies if name.startswith("note_") and "time" not in name])
    assert all(everything.str.contains(one.sentence, regex=False).any() for one in found.sentences)
    with pytest.raises(InputError, match="nothing that this model reads"):
        searcher.search(Study({}))


def test_an_index_of_other_encoders_is_refused(made: RegisteredEncoders, phantom: Path, tmp_path: Path):
    index = index_cohort(str(made.folder), phantom, tmp_path / "index")
    replace(index, encoders_digest="0" * 64).save(tmp_path / "other")
    with pytest.raises(ArtifactError, match="other encoders than the search index was made by"):
        Searcher.load(tmp_path / "other")


def test_a_supervised_training_starts_from_them(made: RegisteredEncoders, phantom: Path, monkeypatch, capsys):
    from training.fitting import lightning_module

    build, started = lightning_module.build_model, {}

    def watched(*arguments):
        model = build(*arguments)
        started.update({n: {k: v.clone() for k, v in e.state_dict().items()} for n, e in model.encoders.items()})
        return model

    monkeypatch.setattr("training.fitting.fit.build_model", watched)
    weights = [f"modalities.{name}.weights={made.uri}" for name in ("image", "text", "observations")]
    settings = ["name=started", "training.epochs=1", "evaluation.bootstrap=20"]
    trained = train(find_recipe("phantom-tiny", [*settings, *weights]), phantom, progress=False)
    pretrained = load_encoders(made.folder).model.encoders
    for name, state in started.items():
        expected = pretrained[name].state_dict()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in state.items())
    named = json.loads(registry.describe(trained.name, trained.version).tags["weights"])
    assert {(name, source["source"]) for name, of in named.items() for source in of} == {
        (name, f"{made.name} version 1") for name in ("image", "text", "observations")
    }
    assert main(["models", "show", trained.name]) == 0
    assert f"{made.name} version 1" in " ".join(capsys.readouterr().out.split())


def test_an_interrupted_pretraining_goes_on_to_the_same_weights(
    made: RegisteredEncoders, phantom: Path, monkeypatch: pytest.MonkeyPatch
):
    step = PretrainingModule.training_step

    def breaking(self, batch, number):
        if self.current_epoch == 1 and number == 1:
            raise KeyboardInterrupt
        return step(self, batch, number)

    monkeypatch.setattr(PretrainingModule, "training_step", breaking)
    with pytest.raises(KeyboardInterrupt):
        pretrain(recipe("tiny"), phantom, progress=False)
    monkeypatch.setattr(PretrainingModule, "training_step", step)
    again = pretrain(recipe("tiny"), phantom, resume=True, progress=False)
    states = [load_encoders(one.folder).model.state_dict() for one in (made, again)]
    assert again.run_id != made.run_id
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_what_a_stage_freezes_stays_as_it_was_and_is_learned_again_afterwards(phantom: Path, tmp_path: Path):
    stages = [STAGES[0], STAGES[1] | {"frozen": ["image"]}, {"name": "both", "epochs": 1}]
    chosen = recipe("frozen", stages=stages)
    cohort = read_cohort(chosen, phantom)
    parts = split_unlabelled(cohort, chosen.splits.model_dump(), chosen.seed)
    cached = cache_cohort(cohort, recipe_of_stages(chosen), tmp_path / "cache")
    found = fit_encoders(cached, chosen, parts["train"], parts["validation"], tmp_path / "fit", lambda _: Sink())
    kept = [
        torch.load(tmp_path / "fit" / stage["name"] / "best.ckpt", weights_only=True)["state_dict"] for stage in stages
    ]
    own = {name: [key for key in kept[0] if f".{name}." in key] for name in ("image", "text")}
    assert any(key.endswith("running_mean") for key in own["image"])
    assert any(".pools." in key for key in own["image"])

    def changed(name: str, before: int, after: int) -> list[str]:
        return [key for key in own[name] if not torch.equal(kept[before][key], kept[after][key])]

    assert changed("image", 0, 1) == []
    assert changed("text", 0, 1)
    assert any(key.endswith("running_mean") for key in changed("image", 1, 2))
    assert any(".projections." in key for key in changed("image", 1, 2))
    assert all(weight.requires_grad for weight in found.model.parameters())


def test_retrieval_above_the_possible_fails_the_run(phantom: Path, monkeypatch: pytest.MonkeyPatch):
    leak = EncoderAudit(pd.DataFrame(), pd.DataFrame(), leaks=("notes: image and text: mean rank",))
    monkeypatch.setattr(pipeline, "audit_encoders", lambda *_: leak)
    one_stage = recipe("leaking", stages=[{"name": "notes", "epochs": 1}])
    with pytest.raises(TrainingError, match="better than the best possible"):
        pretrain(one_stage, phantom, progress=False)
    assert "consilium-encoders-leaking" not in registry.list_models()
    experiment = open_store().get_experiment_by_name("consilium-encoders-leaking")
    (run,) = open_store().search_runs([experiment.experiment_id])
    assert (run.info.status, run.data.tags["audit"]) == ("FAILED", "leak")


def changed_cohort(phantom: Path, root: Path, studies: pd.DataFrame) -> Path:
    """The cohort with another table of studies, as a manifest: nothing is known of its truth."""
    shutil.copytree(phantom, root, ignore=shutil.ignore_patterns("truth", "studies.csv"))
    studies.to_csv(root / "studies.csv", index=False)
    return root


def of_manifest(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"cohort": recipe.cohort.model_copy(update={"kind": "manifest"})})


def test_no_label_is_needed(phantom: Path, tmp_path: Path):
    studies = pd.read_csv(phantom / "studies.csv", dtype=str, keep_default_na=False)
    for column in [name for name in studies if name.startswith("label:")]:
        studies[column] = ""
    bare = changed_cohort(phantom, tmp_path / "bare", studies.drop(columns="split"))
    made = pretrain(of_manifest(recipe("unlabelled", stages=[{"name": "notes", "epochs": 1}])), bare, progress=False)
    assert made.tables == {}
    assert "possible_rank" not in made.audit.retrieval


def test_a_cohort_without_the_pair_is_refused(phantom: Path, tmp_path: Path):
    studies = pd.read_csv(phantom / "studies.csv", dtype=str, keep_default_na=False)
    rows = studies["images"] == ""
    rows[::2] = True
    for column in [name for name in studies if name.startswith("note_")]:
        studies[column] = studies[column].where(rows, "")
    studies["images"] = studies["images"].where(~rows, "")
    something = (studies["images"] != "") | (studies["note_findings"] != "") | (studies["note_history"] != "")
    apart = changed_cohort(phantom, tmp_path / "apart", studies[something])
    kept = pd.read_csv(phantom / "observations.csv", dtype=str)
    kept[kept["study"].isin(studies[something]["study"])].to_csv(apart / "observations.csv", index=False)
    pairs = recipe("apart", pairs=[["image", "text"]], objectives={"clip": 1.0})
    with pytest.raises(TrainingError, match="stage reports: 0 training studies have both image and text"):
        pretrain(of_manifest(pairs), apart, progress=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objectives": {}}, r"pretraining\.objectives: got {}, must give at least one objective"),
        ({"stages": [{"name": "odd", "modalities": {"image": {"size": 128}}}]}, "image has none"),
    ],
)
def test_what_cannot_be_learned_by_is_refused_before_anything_is_read(changes: dict[str, object], message: str):
    with pytest.raises(InputError, match=message):
        pretrain(recipe("wrong", **changes), Path("nowhere"), progress=False)


def test_a_name_too_long_to_register_is_refused():
    long = recipe("x" * 60)
    with pytest.raises(InputError, match="must have at most 52 characters"):
        pretrain(long, Path("nowhere"), progress=False)


def test_the_audit_is_stored_as_it_was_found(made: RegisteredEncoders):
    assert json.loads((made.folder / "audit.json").read_text()) == json.loads(json.dumps(made.audit.to_json()))
