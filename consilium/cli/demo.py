"""`consilium demo`: everything once, from a cohort to an explained diagnosis over HTTP."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from consilium.cli.loop.show_year import show_year
from consilium.cli.shared.console import log_to_terminal, progress_bar, show
from consilium.domain.errors import InputError

if TYPE_CHECKING:
    from consilium.domain.diagnosis import Explanation
    from consilium.domain.study import Record, Study
    from training.cohorts.cohort import StudyRecord
    from training.pipeline.train import TrainedModel

RECIPE = "phantom-demo"
STUDIES, SEED, SIZE = 4000, 1, 128
_PATIENCE_S = 120.0
_FOLDER = Path("var") / "demo"


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Example: consilium demo")(demo)


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """What one study sends to the service, what it really has, and the same as a Study, for the report."""

    study_id: str
    truth: str
    files: dict[str, list[bytes]]
    request: dict[str, Any]
    study: Study


def demo(
    loop: Annotated[
        bool, typer.Option("--loop", help="A year in service instead: drift, alarms, retraining, gates, rollouts.")
    ] = False,
) -> None:
    """Make a phantom cohort, train, evaluate, register and serve a model, and ask it for one explained diagnosis.

    Takes some minutes on two cores. A cohort that is there already is used again.
    """
    if loop:
        show_year(_FOLDER / "loop")
        return
    log_to_terminal()
    _FOLDER.mkdir(parents=True, exist_ok=True)
    cohort = _FOLDER / "cohort"
    _section("1 of 4  a phantom cohort: made-up patients whose best possible diagnosis is known")
    _make_cohort(cohort)
    _section("2 of 4  training, evaluation, registration")
    trained = _train(cohort)
    _section("3 of 4  served over HTTP, asked for one study of the test split")
    request = _one_study(cohort, set(trained.evaluation.study_ids.tolist()))
    explanation = _ask(f"models:/{trained.name}@champion", request)
    _section("4 of 4  the answer")
    _tell(explanation, request, trained)


def _section(title: str) -> None:
    show("", title, "")


def _make_cohort(folder: Path) -> None:
    from training.cohorts.phantom.write import write_phantom

    if folder.exists():
        # It appears whole or not at all, so only another design makes it useless.
        if _is_wanted(folder):
            show(f"{folder} is there already")
            return
        shutil.rmtree(folder)
    with progress_bar("studies", STUDIES) as done:
        write_phantom(folder, STUDIES, SEED, SIZE, progress=done)
    show(f"{STUDIES} studies written to {folder}")


def _is_wanted(folder: Path) -> bool:
    try:
        design = yaml.safe_load((folder / "truth" / "design.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return False
    wanted = {"studies": STUDIES, "seed": SEED, "size": SIZE, "shortcut": None}
    return isinstance(design, dict) and all(design.get(key) == value for key, value in wanted.items())


def _train(cohort: Path) -> TrainedModel:
    from training.evaluation.rows import AS_PRESENT
    from training.figures.evaluation_terminal import terminal_tables
    from training.pipeline.train import train
    from training.recipes import find_recipe

    trained = train(find_recipe(RECIPE), cohort, promote=True)
    show(*terminal_tables(trained.evaluation))
    share = trained.evaluation.value("oracle_shares", "auroc_share", row=AS_PRESENT, finding="macro")
    show(f"fused, macro over findings: {share:.0%} of the AUROC above chance that is possible on this test split")
    show(f"registered, and promoted without gates, as the registry notes: {trained.uri}")
    return trained


def _one_study(root: Path, among: set[str]) -> Request:
    """The first study of `among` with all modalities that the model reads, and more than one finding."""
    from training.cohorts import load_cohort
    from training.recipes import find_recipe

    sections = find_recipe(RECIPE).modalities
    cohort = load_cohort("phantom", root)
    for record in cohort.records:
        read = {name: [one for one in record.parts[name] if sections[name].reads(one)] for name in sections}
        whole = all(read[name] or record.files.get(name) for name in sections)
        has = [finding.display for finding, label in zip(cohort.findings, record.labels, strict=True) if label == 1]
        if whole and record.study_id in among and len(has) > 1:
            return _request(record, read, ", ".join(has))
    raise InputError("cohort", str(root), "must have a test study with every modality and two findings")


def _request(record: StudyRecord, read: Mapping[str, Sequence[Record]], truth: str) -> Request:
    """What asks for `record`; `read` holds, of each modality, the records in memory that the model reads."""
    from consilium.domain.study import iso_text
    from consilium.ingest.study_records import read_files, study_from_records
    from consilium.modalities.registry import file_content

    files: dict[str, list[bytes]] = {}
    for file in record.every_file:
        files.setdefault(file.field, []).append(file_content(file.field, file.path))
    sent: dict[str, Any] = {}
    for one in (one for records in read.values() for one in records):
        sent.setdefault(one.field, []).append(one.sent())
    sent |= {
        "patient": {"age": record.patient.age, "sex": record.patient.sex.value},
        "reference_time": iso_text(record.reference_time),
    }
    # The page shows what was sent, so records are those of the request, in its order.
    study = study_from_records(**read_files(files), **sent)
    return Request(record.study_id, truth, files, sent | {"caller_reference": "demo", "level": "thorough"}, study)


def _ask(model: str, request: Request) -> Explanation:
    from consilium.api.client import Client
    from consilium.api.explanations import read_explanation
    from consilium.api.schemas import ExplainRequest
    from service.app.launch import RunningService

    with RunningService(model, {"studies": True}) as service, Client(service.url) as client:
        show(f"{model} answers at {service.url}; sending {request.study_id}: {_contents(request)}")
        begun = time.monotonic()
        answer = client.explain(ExplainRequest.model_validate(request.request), **request.files)
        show(f"answered in {time.monotonic() - begun:.1f} s")
        _send_to_worklist(service.url, request)
    return read_explanation(answer)


def _send_to_worklist(url: str, request: Request) -> None:
    """Leave the study for the reading page, and wait until the model has answered it."""
    import httpx

    files = [(field, (str(n), data)) for field, some in request.files.items() for n, data in enumerate(some)]
    records = ("request", (None, json.dumps(request.request), "application/json"))
    with httpx.Client(base_url=url, timeout=_PATIENCE_S) as client:
        study = client.post("/v1/studies", files=[*files, records]).raise_for_status().json()
        deadline = time.monotonic() + _PATIENCE_S
        while study["state"] in ("queued", "running") and time.monotonic() < deadline:
            time.sleep(0.2)
            study = client.get(f"/v1/studies/{study['study_id']}").raise_for_status().json()
    show(f"in the worklist of the reading page: {request.study_id}, {study['state']}")


def _contents(request: Request) -> str:
    lists = {**request.files, **{key: sent for key, sent in request.request.items() if isinstance(sent, list)}}
    return ", ".join(f"{len(sent)} {key}" for key, sent in lists.items())


def _tell(explanation: Explanation, request: Request, trained: TrainedModel) -> None:
    from consilium.artifacts.mlflow_store import tracking_uri
    from consilium.cli.diagnose import write_report
    from consilium.cli.shared.dicom_results import DicomResults, sources_of
    from consilium.output.terminal import diagnosis_table, explanation_table, neighbours_table

    report = _FOLDER / "report.html"
    write_report(report, request.study, explanation)
    results = DicomResults(_FOLDER / "findings.dcm", _FOLDER / "capture.dcm", None)
    results.write(sources_of(request.files), request.study, explanation)
    show(diagnosis_table(explanation.diagnosis))
    called = [one for one in explanation.findings if explanation.diagnosis[one.finding].call]
    show(*(explanation_table(one) for one in called))
    if explanation.neighbours:
        show(neighbours_table(explanation.diagnosis, explanation.neighbours))
    serve = f"{_command('consilium')} serve models:/{trained.name}@champion"
    show(
        f"what this made-up patient really has: {request.truth}",
        "",
        f"the report, for a browser:  {report.resolve()}",
        f"the same for an archive:    {', '.join(str(path.resolve()) for path in results.wanted.values())}",
        f"the MLflow UI:              {_command('mlflow')} ui --backend-store-uri {tracking_uri()}",
        f"the registry:               {_command('consilium')} models show {trained.name}",
        f"the answer's audit log:     {_command('consilium')} audit-log recall --model {trained.name}",
        f"the service, to stay:       CONSILIUM_STUDIES=1 {serve}",
        "the reading page, of it:     http://127.0.0.1:3000/read/  (this study waits in its worklist)",
    )


def _command(name: str) -> str:
    """How a shell without this environment finds `name`."""
    return os.path.relpath(Path(sys.executable).parent / name)
