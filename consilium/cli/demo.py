"""`consilium demo`: everything once, from a cohort to an explained diagnosis over HTTP."""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
import yaml

from consilium.cli.shared.console import log_to_terminal, progress_bar, show
from consilium.domain.errors import InputError

if TYPE_CHECKING:
    from consilium.domain.diagnosis import Explanation
    from consilium.domain.study import Study
    from consilium.modalities.text.note import Note
    from training.cohorts.cohort import StudyRecord
    from training.pipeline.train import TrainedModel

RECIPE = "phantom-demo"
STUDIES, SEED, SIZE = 4000, 1, 128
_FOLDER = Path("var") / "demo"


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Example: consilium demo")(demo)


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """What one study sends to the service, what it really has, and the same as a Study, for the report."""

    study_id: str
    truth: str
    images: tuple[bytes, ...]
    request: dict[str, Any]
    study: Study


def demo() -> None:
    """Make a phantom cohort, train, evaluate, register and serve a model, and ask it for one explained diagnosis.

    Takes some minutes on two cores. A cohort that is there already is used again.
    """
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
    show(f"registered and promoted: {trained.uri}")
    return trained


def _one_study(root: Path, among: set[str]) -> Request:
    """The first study of `among` with all modalities and more than one finding."""
    from training.cohorts import load_cohort

    cohort = load_cohort("phantom", root)
    for record in cohort.records:
        whole = record.images and _sent_notes(record) and record.observations
        has = [finding.display for finding, label in zip(cohort.findings, record.labels, strict=True) if label == 1]
        if whole and record.study_id in among and len(has) > 1:
            return _request(record, ", ".join(has))
    raise InputError("cohort", str(root), "must have a test study with every modality and two findings")


def _sent_notes(record: StudyRecord) -> list[Note]:
    """Notes that are written before the image is read; the model reads no others."""
    from consilium.modalities.text.note import NoteKind

    return [note for note in record.notes if note.kind in (NoteKind.HISTORY, NoteKind.INDICATION)]


def _request(record: StudyRecord, truth: str) -> Request:
    from consilium.modalities.image.records import read_image

    request = {
        "notes": [
            {"kind": note.kind.value, "text": note.text, "time": _iso(note.time)} for note in _sent_notes(record)
        ],
        "observations": [
            {"code": o.code, "value": o.given_value, "unit": o.given_unit, "time": _iso(o.time)}
            for o in record.observations
        ],
        "patient": {"age": record.patient.age, "sex": record.patient.sex.value},
        "reference_time": _iso(record.reference_time),
        "caller_reference": "demo",
        "level": "thorough",
    }
    files = tuple(image.path.read_bytes() for image in record.images)
    # The page shows what was sent, so notes are those of the request, in its order.
    return Request(record.study_id, truth, files, request, _study([read_image(data) for data in files], request))


def _study(images: list[Any], request: dict[str, Any]) -> Study:
    from consilium.ingest.study_records import study_from_records

    parts = ("notes", "observations", "patient", "reference_time")
    return study_from_records(images=images, **{name: request[name] for name in parts})


def _iso(time: Any) -> str | None:
    return None if time is None else time.isoformat()


def _ask(model: str, request: Request) -> Explanation:
    from consilium.api.client import Client
    from consilium.api.explanations import read_explanation
    from consilium.api.schemas import ExplainRequest
    from service.app.launch import RunningService

    with RunningService(model) as service, Client(service.url) as client:
        show(f"{model} answers at {service.url}; sending {request.study_id}: {_contents(request)}")
        begun = time.monotonic()
        answer = client.explain(ExplainRequest.model_validate(request.request), images=request.images)
        show(f"answered in {time.monotonic() - begun:.1f} s")
    return read_explanation(answer)


def _contents(request: Request) -> str:
    images, notes, values = (
        len(part) for part in (request.images, request.request["notes"], request.request["observations"])
    )
    return f"{images} DICOM, {notes} note(s), {values} observations"


def _tell(explanation: Explanation, request: Request, trained: TrainedModel) -> None:
    from consilium.artifacts.mlflow_store import tracking_uri
    from consilium.cli.diagnose import write_report
    from consilium.output.terminal import diagnosis_table, explanation_table, neighbours_table

    report = _FOLDER / "report.html"
    write_report(report, request.study, explanation)
    show(diagnosis_table(explanation.diagnosis))
    called = [one for one in explanation.findings if explanation.diagnosis[one.finding].call]
    show(*(explanation_table(one) for one in called))
    if explanation.neighbours:
        show(neighbours_table(explanation.diagnosis, explanation.neighbours))
    show(
        f"what this made-up patient really has: {request.truth}",
        "",
        f"the report, for a browser:  {report.resolve()}",
        f"the MLflow UI:              {_command('mlflow')} ui --backend-store-uri {tracking_uri()}",
        f"the registry:               {_command('consilium')} models show {trained.name}",
        f"the answer's audit log:     {_command('consilium')} audit-log recall --model {trained.name}",
        f"the service, to stay:       {_command('consilium')} serve models:/{trained.name}@champion",
    )


def _command(name: str) -> str:
    """How a shell without this environment finds `name`."""
    return os.path.relpath(Path(sys.executable).parent / name)
