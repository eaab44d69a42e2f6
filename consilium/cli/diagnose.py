"""`consilium diagnose`: one study, answered and explained in this process or by a running service."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from consilium.cli.shared import dicom_results
from consilium.cli.shared.console import AsJson, make_room, show, show_json
from consilium.cli.shared.study_options import split_files, takes_study
from consilium.domain.errors import DecoderUnavailable, InputError
from consilium.domain.variables import BUILT_IN, VariableTable
from consilium.formats.text_files import read_text
from consilium.modalities.registry import file_inputs
from consilium.system.environment import Variable
from consilium.system.garbage import without_collection
from consilium.system.installed import load

if TYPE_CHECKING:
    from consilium.domain.diagnosis import Diagnosis, Explanation
    from consilium.domain.study import Study

Token = Annotated[
    str | None,
    typer.Option(envvar=Variable.TOKEN, help="For --url; an option can be seen by others on this machine."),
]


Files: TypeAlias = Mapping[str, Sequence[Path]]
"""Paths, by the name under which their files are sent: ``images``."""


def add_to(app: typer.Typer) -> None:
    app.command(
        epilog="Example: consilium diagnose models:/consilium-phantom-demo@champion --image chest.dcm "
        "--note 'indication=fever and cough' --observations labs.csv --age 67 --sex F --report out.html"
    )(diagnose)


@takes_study
def diagnose(
    model: Annotated[
        str | None, typer.Argument(help="Model folder, models:/NAME@ALIAS or models:/NAME/VERSION; none with --url.")
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
    sr: dicom_results.Report = None,
    sc: dicom_results.Capture = None,
    seg: dicom_results.Evidence = None,
    as_json: AsJson = False,
    *,
    sent: Mapping[str, Any],
) -> None:
    """Diagnose one study and explain the evidence. Any modality may be absent."""
    make_room(report, option="--report")
    files, records = split_files(sent)
    results = dicom_results.DicomResults(sr, sc, seg)
    sources = results.sources(files)
    records["patient"] = {"age": age, "sex": sex, "names": None if names is None else _lines(names)}
    records["reference_time"] = reference_time
    on_terminal = not as_json and report is None
    if url is not None and model is None:
        # Before the service is asked: a page that cannot be drawn costs no answer.
        decoded = decode(files) if report is not None or results.wanted else None
        explanation = ask(url, token, {**files, **records}, {"findings": finding or None, "level": level})
        # Only the page and the capture show what was sent.
        study = None if decoded is None else read_study(decoded, records)
    elif url is None and model is not None:
        show_first = _show_diagnosis if on_terminal else None  # an explanation may take longer than the answer
        study, explanation = explain(model, device, files, records, finding or None, level, show_first)
    else:
        raise InputError("model", model, "must be given, or --url instead of it, not both")
    if report is not None and study is not None:
        write_report(report, study, explanation)
    if study is not None:
        results.write(sources, study, explanation)
    if as_json:
        from consilium.api.explanations import explanation_json

        show_json(explanation_json(explanation))
        return
    if url is not None or not on_terminal:
        _show_diagnosis(explanation.diagnosis)
    _show_evidence(explanation, finding or _worth_explaining(explanation.diagnosis))
    show(*(f"{name}: {path}" for name, path in {"report": report, **results.named}.items() if path is not None))


def _show_evidence(explanation: Explanation, findings: Sequence[str]) -> None:
    from consilium.output.terminal import explanation_table, neighbours_table

    show(*(explanation_table(one) for one in explanation.findings if one.finding in findings))
    if explanation.neighbours:
        show(neighbours_table(explanation.diagnosis, explanation.neighbours))


def decode(files: Files) -> dict[str, list[Any]]:
    """The decoded files; `InputError` names the one that cannot be."""
    with _decoding(files) as waiting:
        return _decoded(waiting)


@contextmanager
def _decoding(files: Files) -> Iterator[dict[str, list[Future[Any]]]]:
    """Decode in a process beside this one while the block runs; what is not done at its end is given up."""
    from consilium.ingest.decode_pool import DecodePool

    with DecodePool(1, start=False) as pool:
        yield {
            name: [pool.submit(path, name, f"{name}[{number}]") for number, path in enumerate(paths)]
            for name, paths in files.items()
        }


def _decoded(waiting: Mapping[str, Sequence[Future[Any]]]) -> dict[str, list[Any]]:
    try:
        return {name: [one.result() for one in futures] for name, futures in waiting.items()}
    except DecoderUnavailable:
        for name in waiting:
            load(file_inputs()[name].read)  # where a codec is missing this process says which extra brings it
        raise


def read_study(decoded: Mapping[str, Any], records: Mapping[str, Any], variables: VariableTable = BUILT_IN) -> Study:
    """The study that files and records make, of the `variables` that a model knows.

    Raises
    ------
    InputError
        Names the option or the record.
    """
    from consilium.ingest.study_records import study_from_records

    return study_from_records(**decoded, **records, variables=variables)


def explain(
    model: str,
    device: str,
    files: Files,
    records: Mapping[str, Any],
    findings: Sequence[str] | None,
    level: str,
    show_first: Callable[[Diagnosis], None] | None,
) -> tuple[Study, Explanation]:
    """What the model answers, with an explanation of `findings`; None: of all.

    `show_first` gets the diagnosis before it is explained; then None means the findings that a terminal explains.
    """
    with without_collection():
        with _decoding(files) as waiting:  # while torch is imported
            from consilium.inference.diagnostician import Diagnostician
            from consilium.system.threads import limit_threads

            decoded = _decoded(waiting)
        limit_threads()
        diagnostician = Diagnostician.load(model, device)
    diagnostician.require_explainable(findings, level)
    study = read_study(decoded, records, diagnostician.variables)
    if show_first is not None:
        (diagnosis,) = diagnostician.diagnose([study])
        show_first(diagnosis)
        findings = findings or _worth_explaining(diagnosis)
    return study, diagnostician.explain(study, findings, level)


def ask(url: str, token: str | None, sent: Mapping[str, Any], asked: dict[str, Any]) -> Explanation:
    """What the service at `url` answers."""
    from consilium.api.client import Client
    from consilium.api.explanations import read_explanation

    with Client(url, token=token) as client:
        return read_explanation(client.explain(**sent, **asked))


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


def _worth_explaining(diagnosis: Diagnosis) -> list[str]:
    """Names of the findings that the terminal explains unless it is asked: those called, else the most probable one."""
    results = diagnosis.findings
    called = [result.finding for result in results if result.call]
    return called or [max(results, key=lambda result: result.probability).finding]


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in read_text(path, "--names").splitlines() if line.strip()]
