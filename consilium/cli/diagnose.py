"""`consilium diagnose`: one study, answered and explained in this process or by a running service."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import typer

from consilium.cli.console import AsJson, make_room, show, show_json
from consilium.domain.encoded_text import decode_text
from consilium.domain.errors import InputError
from consilium.domain.variables import BUILT_IN, VariableTable
from consilium.modalities.text.note import NoteKind
from consilium.system.environment import Variable

if TYPE_CHECKING:
    from consilium.domain.diagnosis import Diagnosis, Explanation
    from consilium.domain.study import Study
    from consilium.modalities.image.image_record import Image

_COLUMNS = ("code", "value", "unit", "comparator", "time")
_OPTIONAL = ("comparator", "time")
_NOTE_RULE = f"must read KIND=TEXT or KIND=@FILE with a kind of {', '.join(NoteKind)}"
_MOST_BYTES = 1 << 24
Token = Annotated[
    str | None,
    typer.Option(envvar=Variable.TOKEN, help="For --url; an option can be seen by others on this machine."),
]


def add_to(app: typer.Typer) -> None:
    app.command(
        epilog="Example: consilium diagnose models:/consilium-phantom-demo@champion --image chest.dcm "
        "--note 'indication=fever and cough' --observations labs.csv --age 67 --sex F --report out.html"
    )(diagnose)


def diagnose(
    model: Annotated[
        str | None, typer.Argument(help="Model folder, models:/NAME@ALIAS or models:/NAME/VERSION; none with --url.")
    ] = None,
    image: Annotated[list[Path] | None, typer.Option(help="DICOM, PNG, JPEG or TIFF file; repeatable.")] = None,
    note: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND=TEXT", help="A note, or KIND=@FILE; KIND is history, indication, ...; repeatable."),
    ] = None,
    observations: Annotated[
        Path | None, typer.Option(help="CSV with the columns code, value, unit, time, or JSON with a list of these.")
    ] = None,
    age: Annotated[str | None, typer.Option(help="Years, or such as 067Y, 18 months, 90+.")] = None,
    sex: Annotated[str | None, typer.Option(help="F, M, O, U, female, male, other, unknown.")] = None,
    names: Annotated[
        Path | None,
        typer.Option(help="Text file of the patient's names and identifiers, one a line, to mask in notes."),
    ] = None,
    reference_time: Annotated[
        str | None, typer.Option(help="Moment of the question (ISO 8601); the earliest image's unless given.")
    ] = None,
    finding: Annotated[list[str] | None, typer.Option(help="Explain this finding; repeatable; all if none.")] = None,
    level: Annotated[str, typer.Option(help="How much an explanation may cost: fast or thorough.")] = "thorough",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    url: Annotated[str | None, typer.Option(help="Ask the service at this address instead of a model here.")] = None,
    token: Token = None,
    report: Annotated[Path | None, typer.Option(help="Write a self-contained HTML page.")] = None,
    as_json: AsJson = False,
) -> None:
    """Diagnose one study and say what spoke for it. Any part of it may be missing."""
    make_room(report, option="--report")
    images = image or []
    records = read_records(note or (), observations, age, sex, reference_time, names)
    on_terminal = not as_json and report is None
    if url is not None and model is None:
        explanation = _ask(url, token, images, records, {"findings": finding or None, "level": level})
        # Only the page shows what was sent.
        study = None if report is None else read_study(decode(images), records)
    elif url is None and model is not None:
        show_first = _show_diagnosis if on_terminal else None  # an explanation may take longer than the answer
        study, explanation = _explain(model, device, images, records, finding or None, level, show_first)
    else:
        raise InputError("model", model, "must be given, or --url instead of it, not both")
    if report is not None and study is not None:
        write_report(report, study, explanation)
    if as_json:
        from consilium.api.explanations import explanation_json

        show_json(explanation_json(explanation))
        return
    from consilium.output.terminal import explanation_table, neighbours_table

    if url is not None or not on_terminal:
        _show_diagnosis(explanation.diagnosis)
    told = set(finding or _told(explanation.diagnosis))
    show(*(explanation_table(one) for one in explanation.findings if one.finding in told))
    if explanation.neighbours:
        show(neighbours_table(explanation.diagnosis, explanation.neighbours))
    if report is not None:
        show(f"report: {report}")


class Records(TypedDict):
    """What lies beside the images, as `consilium.ingest` and the service read it."""

    notes: list[dict[str, object]]
    observations: list[dict[str, object]]
    patient: dict[str, object]
    reference_time: str | None


def read_records(
    notes: Sequence[str],
    observations: Path | None,
    age: str | None,
    sex: str | None,
    reference_time: str | None,
    names: Path | None = None,
) -> Records:
    """The records that the options describe.

    Raises
    ------
    InputError
        Names the option or the record.
    """
    return {
        "notes": [_note(text, number) for number, text in enumerate(notes)],
        "observations": [] if observations is None else _observations(observations),
        "patient": {"age": age, "sex": sex, "names": None if names is None else _lines(names)},
        "reference_time": reference_time,
    }


def decode(images: Sequence[Path]) -> list[Image]:
    """The decoded files; `InputError` names the one that cannot be."""
    with _decoding(images) as waiting:
        return [one.result() for one in waiting]


@contextmanager
def _decoding(images: Sequence[Path]) -> Iterator[list[Future[Image]]]:
    """Decode in a process beside this one while the block runs; what is not done at its end is given up."""
    from consilium.ingest.decode_pool import DecodePool

    with DecodePool(1, start=False) as pool:
        yield [pool.submit(path, f"images[{number}]") for number, path in enumerate(images)]


def read_study(images: Sequence[Image], records: Records, variables: VariableTable = BUILT_IN) -> Study:
    """The study that images and records make, of the `variables` that a model knows.

    Raises
    ------
    InputError
        Names the option or the record.
    """
    from consilium.ingest.study_records import study_from_records

    return study_from_records(images=images, **records, variables=variables)


def _explain(
    model: str,
    device: str,
    images: Sequence[Path],
    records: Records,
    findings: Sequence[str] | None,
    level: str,
    show_first: Callable[[Diagnosis], None] | None,
) -> tuple[Study, Explanation]:
    """What the model answers, with an explanation of `findings`; None: of all.

    `show_first` gets the diagnosis before it is explained; then None means the findings that a terminal explains.
    """
    with _decoding(images) as waiting:  # while torch is imported
        from consilium.inference.diagnostician import Diagnostician
        from consilium.system.threads import limit_threads

        decoded = [one.result() for one in waiting]
    limit_threads()
    diagnostician = Diagnostician.load(model, device)
    diagnostician.require_explainable(findings, level)
    study = read_study(decoded, records, diagnostician.variables)
    if show_first is not None:
        (diagnosis,) = diagnostician.diagnose([study])
        show_first(diagnosis)
        findings = findings or _told(diagnosis)
    return study, diagnostician.explain(study, findings, level)


def _ask(url: str, token: str | None, images: Sequence[Path], records: Records, asked: dict[str, Any]) -> Explanation:
    from consilium.api.client import Client
    from consilium.api.explanations import read_explanation

    with Client(url, token=token) as client:
        return read_explanation(client.explain(images=images, **records, **asked))


def write_report(path: Path, study: Study, explanation: Explanation) -> None:
    """Write the HTML page of `explanation` to `path`."""
    from consilium.output.report import report_html

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(report_html(study, explanation), encoding="utf-8")
    except OSError as error:
        raise InputError("--report", str(path), f"must be a file that can be written ({error.strerror})") from None


def _show_diagnosis(diagnosis: Diagnosis) -> None:
    from consilium.output.terminal import diagnosis_table

    show(diagnosis_table(diagnosis))


def _told(diagnosis: Diagnosis) -> list[str]:
    """Names of the findings that the terminal explains unless it is asked: those called, else the most probable one."""
    results = diagnosis.findings
    called = [result.finding for result in results if result.call]
    return called or [max(results, key=lambda result: result.probability).finding]


def _note(option: str, number: int) -> dict[str, object]:
    kind, equals, text = option.partition("=")
    if not equals or kind not in NoteKind.__members__.values():
        raise InputError(f"--note[{number}]", kind if equals else "no kind", _NOTE_RULE)
    if text.startswith("@"):
        text = read_text(Path(text[1:]), f"--note[{number}]")
    return {"kind": kind, "text": text}


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in read_text(path, "--names").splitlines() if line.strip()]


def _observations(path: Path) -> list[dict[str, object]]:
    text = read_text(path, "--observations")
    if path.suffix.lower() == ".csv":
        return _csv_observations(text)
    try:
        records = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError("--observations", path.name, "must be a .csv table or JSON") from None
    if not isinstance(records, list):
        raise InputError("--observations", type(records).__name__, "must be a list of observations")
    return records


def _csv_observations(text: str) -> list[dict[str, object]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = list(reader.fieldnames or ())
        if len(set(columns)) < len(columns) or not set(_COLUMNS) - set(_OPTIONAL) <= set(columns) <= set(_COLUMNS):
            rule = f"must have the columns {', '.join(_COLUMNS)}, of which {' and '.join(_OPTIONAL)} may be missing"
            raise InputError("--observations", ", ".join(columns), rule)
        return [_csv_observation(row, f"observations[{number}]") for number, row in enumerate(reader)]
    except csv.Error:
        raise InputError("--observations", "broken CSV", "must be a table with one header line") from None


def _csv_observation(row: dict[str | Any, str | Any], field: str) -> dict[str, object]:
    if None in row or None in row.values():
        raise InputError(field, "a row of another length", "must have as many cells as the header")
    optional = {name: row[name] for name in _OPTIONAL if row.get(name)}
    return {"code": row["code"], "value": row["value"], "unit": row["unit"], **optional}


def read_text(path: Path, option: str) -> str:
    """The text of the file that `option` names, or `InputError`."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(option, path.name, f"must have at most {_MOST_BYTES} bytes")
        return decode_text(path.read_bytes(), option)
    except OSError as error:
        raise InputError(option, str(path), f"must be a readable file ({error.strerror})") from None
