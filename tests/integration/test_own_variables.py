"""A cohort with variables of its own, the whole way: check, training, artifact, answers, explanations, report."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from consilium.api.schemas import ExplanationAnswer, ModelInformation
from consilium.cli import app
from consilium.configuration.recipe import Recipe
from consilium.explain import explain
from consilium.inference.diagnostician import Diagnostician
from consilium.ingest.study_records import study_from_records
from consilium.modalities.observations.features import Aspect
from consilium.output.report import report_html
from service.app.lifecycle import Lifecycle
from service.app.routes import create_app
from service.audit_log.pseudonyms import make_keys
from service.serving.served_model import load_diagnostician
from service.settings import Settings
from tests.consilium.tiny import numbers_of, tiny_recipe
from tests.patience import PATIENCE_S
from training.cohorts.manifest import read_manifest
from training.evaluation.rows import AS_PRESENT, Row, RowKind
from training.inspection.inspect import check_cohort
from training.pipeline.train import TrainedModel, train

STUDIES = 160
DECLARED = """
name: ward
findings: [{name: pneumonia, display: Pneumonia}]
variables:
  - {name: drain_output, display: Drain output, unit: mL/d, reference: [0, 100], plausible: [0, 20000], scale: log,
     codes: [DRAIN-24]}
  - {name: sputum, display: Sputum, kind: categorical, categories: [none, white, purulent, rusty], codes: [SPUTUM]}
  - {name: ventilated, display: Mechanical ventilation, kind: yes_no}
"""
ASKED: list[dict[str, Any]] = [
    {"code": "DRAIN-24", "value": 0.8, "unit": "L/d", "time": "2024-05-01T06:00:00"},
    {"code": "DRAIN-24", "value": 1.2, "unit": "L/d", "time": "2024-05-01T10:00:00"},
    {"code": "SPUTUM", "value": "Purulent"},
    {"code": "ventilated", "value": "yes"},
    {"code": "1988-5", "value": "<0.3", "unit": "mg/L", "time": "2024-05-01T10:00:00"},
]
NOON = "2024-05-01T12:00:00"


def recipe() -> Recipe:
    return tiny_recipe(
        name="ward",
        modalities=["observations"],
        observations={"width": 8, "depth": 1, "history": 2},
        training={"epochs": 4, "batch_size": 16, "learning_rate": 0.01},
        evaluation={"bootstrap": 20, "out_of_distribution": 10, "faithfulness": 4, "baselines": True},
        explain={"observations": "shapley"},
    )


def write_ward(root: Path) -> Path:
    """Purulent sputum, ventilation and a full drain go with pneumonia; some CRP is below the limit of measurement."""
    rng = np.random.default_rng(4)
    studies, observations = [], []
    for number in range(STUDIES):
        ill = bool(rng.random() < 0.5)
        likely = rng.random() < 0.85
        sputum = ("purulent" if ill else "white") if likely else "none"
        drain = float(np.round(np.exp(rng.normal(6 if ill else 4, 0.7)), 1))
        crp = float(np.round(np.exp(rng.normal(3 if ill else 1, 1)), 1))
        studies.append(
            {
                "study": f"s{number}",
                "patient": f"p{number // 2}",
                "reference_time": NOON,
                "label:pneumonia": int(ill),
                "value:sputum": sputum,
                "value:ventilated": "yes" if (ill == likely) else "no",
                "value:crp": "<0.5" if crp < 2 else crp,
            }
        )
        for hour, share in ((4, 0.8), (8 + number % 3, 1.0)):
            value = {"code": "DRAIN-24", "value": drain * share, "unit": "mL/d", "time": f"2024-05-01T{hour:02d}:00:00"}
            observations.append({"study": f"s{number}"} | value)
    root.mkdir()
    (root / "cohort.yaml").write_text(DECLARED)
    for name, rows in (("studies", studies), ("observations", observations)):
        with (root / f"{name}.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    return root


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        patch.setenv("CONSILIUM_HOME", str(folder))
        make_keys(folder / "audit-log.keys")
        yield


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ward(tmp_path_factory.mktemp("cohorts") / "ward")


@pytest.fixture(scope="module")
def trained(ward: Path) -> TrainedModel:
    return train(recipe(), ward, progress=False)


@pytest.fixture(scope="module")
def diagnostician(trained: TrainedModel) -> Diagnostician:
    return Diagnostician.load(trained.folder, "cpu")


def test_the_check_reports_on_them(ward: Path) -> None:
    report = check_cohort(read_manifest(ward), audited=False)
    assert report.problems == ()
    found = report.tables["variables"].frame.set_index("variable")
    assert found.loc["Drain output", ["kind", "studies", "values"]].tolist() == ["numeric", STUDIES, 2 * STUDIES]
    assert "purulent: " in found.loc["Sputum", "found"]
    assert found.loc["Mechanical ventilation", "kind"] == "yes_no"


def test_the_model_reads_each_of_them_and_learns_from_them(trained: TrainedModel, diagnostician: Diagnostician) -> None:
    features = {feature.name: feature for feature in diagnostician.preprocessing.preparations["observations"].features}
    assert list(features) == [
        *("crp", "drain_output", "sputum", "ventilated"),
        *("drain_output:age", "drain_output:change"),
    ]
    assert features["sputum"].codes == ("none", "white", "purulent")
    assert features["crp"].codes == ("<",)
    assert features["drain_output"].floor == 1.0
    assert trained.evaluation.value("metrics", "auroc", row=AS_PRESENT, finding="macro") > 0.8
    boosted = Row(RowKind.BASELINE, "values_gradient_boosting")
    baseline = trained.evaluation.value("metrics", "auroc", row=boosted, finding="macro")
    assert baseline > 0.8
    groups = trained.evaluation.tables["subgroups"]
    assert set(groups[groups["kind"] == "Sputum"]["group"]) == {"none", "white", "purulent"}


def test_the_reference_studies_hold_every_kind_of_value(diagnostician: Diagnostician) -> None:
    values = [o for study in diagnostician.references.studies for o in study.request.observations]
    assert {value.code for value in values} == {"DRAIN-24", "SPUTUM", "ventilated", "1988-5"}
    assert any(str(value.value).startswith("<") for value in values)
    prepared = [diagnostician.prepare(one.study(diagnostician.variables)) for one in diagnostician.references.studies]
    assert np.isfinite([numbers_of(item) for item in prepared]).any(axis=0).all()


def in_service(trained: TrainedModel, scenario: Callable[[httpx.AsyncClient], Any]) -> Any:
    async def go() -> Any:
        application = create_app()
        lifecycle = Lifecycle(Settings(model=str(trained.folder), device="cpu"), partial(load_diagnostician))
        await lifecycle.start()
        application.state.lifecycle = lifecycle
        try:
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(application), base_url="http://service"
            ) as client:
                return await scenario(client)
        finally:
            await lifecycle.stop()

    return asyncio.run(asyncio.wait_for(go(), PATIENCE_S))


def test_the_service_names_accepts_and_explains_them(trained: TrainedModel, diagnostician: Diagnostician) -> None:
    request = {"observations": ASKED, "reference_time": NOON, "level": "thorough"}

    async def scenario(client: httpx.AsyncClient) -> tuple[ModelInformation, ExplanationAnswer]:
        information = await client.get("/v1/model")
        answer = await client.post("/v1/explain", files={"request": (None, json.dumps(request), "application/json")})
        assert answer.status_code == 200, answer.text
        return ModelInformation.model_validate(information.json()), ExplanationAnswer.model_validate(answer.json())

    information, answer = in_service(trained, scenario)
    known = {variable.name: variable for variable in information.reads.parts["observations"].variables}
    assert list(known) == ["crp", "drain_output", "sputum", "ventilated"]
    assert [code.code for code in known["drain_output"].codes] == ["DRAIN-24", "drain_output"]
    assert (known["drain_output"].unit, known["drain_output"].reference) == ("mL/d", (0.0, 100.0))
    assert known["sputum"].categories == ("none", "white", "purulent", "rusty")
    assert known["ventilated"].kind == "yes_no"
    assert information.reads.parts["observations"].history == 2

    study = study_from_records(observations=ASKED, reference_time=NOON, variables=diagnostician.variables)
    (expected,) = diagnostician.diagnose([study])
    assert answer.findings[0].probability == pytest.approx(expected["pneumonia"].probability, abs=1e-6)
    (explained,) = answer.explanations
    shown = {(one.variable, one.aspect): one for one in explained.parts["observations"]}
    assert shown.keys() == {
        *((name, "value") for name in known),
        *(("drain_output", "age"), ("drain_output", "change")),
    }
    drain = shown["drain_output", "value"]
    assert (drain.value, drain.unit, drain.reference and drain.reference.value) == ("1.2", "L/d", pytest.approx(1200))
    assert (shown["sputum", "value"].value, shown["sputum", "value"].display) == ("purulent", "Sputum")
    assert shown["crp", "value"].value == "<0.3"
    assert (shown["drain_output", "age"].value, shown["drain_output", "age"].unit) == ("2", "h")
    # 400 mL/d more within four hours, which counts as six.
    assert (shown["drain_output", "change"].value, shown["drain_output", "change"].unit) == ("+1600", "mL/d")
    # Shapley values add up to what the values brought.
    total = sum(one.weight for one in explained.parts["observations"])
    assert total == pytest.approx(explained.log_odds - explained.prior_log_odds, abs=1e-4)


def weights(diagnostician: Diagnostician, observations: list[dict[str, Any]], method: str) -> dict[str, float]:
    study = study_from_records(observations=observations, reference_time=NOON, variables=diagnostician.variables)
    own = (diagnostician.model, diagnostician.preprocessing, diagnostician.calibration)
    asked = (diagnostician.prepare(study), diagnostician.findings, ["pneumonia"], "thorough", {"observations": method})
    ((explained,), _) = explain(*own, *asked)
    assert explained.methods["observations"] == method
    return {
        **{f"{one.variable}:{one.aspect}": one.weight for one in explained.parts["observations"]},
        "answer": explained.log_odds,
    }


def test_a_category_weighs_what_the_answer_loses_without_it(diagnostician: Diagnostician) -> None:
    with_it = weights(diagnostician, ASKED, "leave_one_out")
    for place, name in ((2, "sputum"), (3, "ventilated"), (4, "crp")):
        without = weights(diagnostician, ASKED[:place] + ASKED[place + 1 :], "leave_one_out")
        assert with_it[f"{name}:value"] == pytest.approx(with_it["answer"] - without["answer"], abs=1e-4)


def test_a_category_s_gradient_is_measured_from_what_patients_have_on_average(diagnostician: Diagnostician) -> None:
    feature = next(
        one for one in diagnostician.preprocessing.preparations["observations"].features if one.name == "sputum"
    )
    found = [
        weights(diagnostician, [{"code": "SPUTUM", "value": value}, ASKED[3]], "gradient_x_value")["sputum:value"]
        for value in feature.codes
    ]
    assert found[feature.codes.index("purulent")] > 0 > found[feature.codes.index("white")]


@pytest.mark.parametrize("level", ["fast", "thorough"])
def test_the_report_and_the_terminal_show_them(diagnostician: Diagnostician, level: str) -> None:
    study = study_from_records(observations=ASKED, reference_time=NOON, variables=diagnostician.variables)
    page = report_html(study, diagnostician.explain(study, level=level))
    for expected in ("Drain output", "1.2 L/d", "0 to 100 mL/d", "Sputum", "purulent", "Mechanical ventilation"):
        assert expected in page
    assert "&lt;0.3 mg/L" in page


def test_the_command_reads_them_from_a_table(trained: TrainedModel, tmp_path: Path) -> None:
    table = tmp_path / "labs.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["code", "value", "unit", "time"])
        writer.writeheader()
        writer.writerows(ASKED)
    page = tmp_path / "page.html"
    arguments = ["--observations", str(table), "--reference-time", NOON, "--report", str(page), "--device", "cpu"]
    done = CliRunner().invoke(app, ["diagnose", str(trained.folder), *arguments])
    assert done.exit_code == 0, done.output
    assert "purulent" in page.read_text()


def test_a_category_that_no_training_study_had_is_left_out_and_warned_of(diagnostician: Diagnostician) -> None:
    rusty = [{"code": "SPUTUM", "value": "rusty"}, {"code": "ventilated", "value": "no"}]
    asked = study_from_records(observations=rusty, variables=diagnostician.variables)
    without = study_from_records(observations=rusty[1:], variables=diagnostician.variables)
    (first,), (second,) = diagnostician.diagnose([asked]), diagnostician.diagnose([without])
    assert first["pneumonia"].probability == second["pneumonia"].probability
    assert "observation left out: Sputum rusty, no training study of this model had this category" in first.warnings


def test_the_category_moves_the_answer_as_the_cohort_says(diagnostician: Diagnostician) -> None:
    def probability(**values: str) -> float:
        sent = [{"code": code, "value": value} for code, value in values.items()]
        study = study_from_records(observations=sent, variables=diagnostician.variables)
        return diagnostician.diagnose([study])[0]["pneumonia"].probability

    assert probability(SPUTUM="purulent", ventilated="yes") > probability(SPUTUM="white", ventilated="no")


def test_history_can_be_switched_off_in_the_recipe() -> None:
    assert recipe().modalities["observations"].history == 2
    assert tiny_recipe().modalities["observations"].history == 1
    assert {aspect.value for aspect in Aspect} == {"value", "age", "change"}
