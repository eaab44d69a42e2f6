"""`consilium draft`: a draft of a report on one study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from consilium.cli.diagnose import Token, ask, decode, explain, read_study
from consilium.cli.shared.console import AsJson, make_room, show, show_json
from consilium.cli.shared.study_options import split_files, takes_study
from consilium.domain.errors import InputError


def add_to(app: typer.Typer) -> None:
    app.command(
        epilog="Example: consilium draft models:/consilium-phantom-demo@champion --image chest.dcm "
        "--note 'indication=fever and cough' --observations labs.csv --language de"
    )(draft)


@takes_study
def draft(
    model: Annotated[
        str | None, typer.Argument(help="Model folder, models:/NAME@ALIAS or models:/NAME/VERSION; none with --url.")
    ] = None,
    age: Annotated[str | None, typer.Option(help="Years, or such as 067Y, 18 months, 90+.")] = None,
    sex: Annotated[str | None, typer.Option(help="F, M, O, U, female, male, other, unknown.")] = None,
    reference_time: Annotated[
        str | None, typer.Option(help="Moment of the question (ISO 8601); the earliest image's unless given.")
    ] = None,
    language: Annotated[str, typer.Option(help="Of the built-in phrases: en or de.")] = "en",
    phrases: Annotated[Path | None, typer.Option(help="YAML file of the site's own phrases, in their place.")] = None,
    show_phrases: Annotated[
        bool, typer.Option("--show-phrases", help="Print the built-in phrases as YAML, and no draft.")
    ] = False,
    level: Annotated[str, typer.Option(help="How much an explanation may cost: fast or thorough.")] = "fast",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    url: Annotated[str | None, typer.Option(help="Ask the service at this address instead of a model here.")] = None,
    token: Token = None,
    out: Annotated[Path | None, typer.Option(help="Write the draft to this text file.")] = None,
    as_json: AsJson = False,
    *,
    sent: Mapping[str, Any],
) -> None:
    """Draft a report on one study: what the calibrated answers say, by rules, and nothing else."""
    from consilium.output.drafting.draft_report import draft_report
    from consilium.output.drafting.phrases import built_in_file, built_in_phrases, read_phrases

    if show_phrases:
        show(built_in_file(language).rstrip())
        return
    make_room(out, option="--out")
    # Before anything is computed: a phrase that is missing costs no answer.
    said = built_in_phrases(language) if phrases is None else read_phrases(phrases, "--phrases")
    files, records = split_files(sent)
    records |= {"patient": {"age": age, "sex": sex, "names": None}, "reference_time": reference_time}
    if url is not None and model is None:
        study = read_study(decode(files), records)
        explanation = ask(url, token, {**files, **records}, {"findings": None, "level": level})
    elif url is None and model is not None:
        study, explanation = explain(model, device, files, records, None, level, None)
    else:
        raise InputError("model", model, "must be given, or --url instead of it, not both")
    made = draft_report(study, explanation, said)
    if out is not None:
        _write(out, made.text)
    if as_json:
        show_json(explanation.diagnosis.to_json() | {"draft": made.model_dump(mode="json")})
    elif out is None:
        show(made.text)
    else:
        show(f"draft: {out}")


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError("--out", str(path), f"must be a file that can be written ({error.strerror})") from None
