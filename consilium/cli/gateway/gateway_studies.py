"""`consilium gateway studies` and `unmatched`: what became of each study and message, and what a person decides."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from consilium.cli.gateway.message_commands import message_line
from consilium.cli.gateway.settings_option import DEFAULT, Limit, Settings, gateway_store
from consilium.cli.shared.console import AsJson, show, show_json, table_of
from consilium.domain.errors import InputError

if TYPE_CHECKING:
    from hospital.store.gateway_store import Store
    from hospital.store.state import QueuedDelivery, Revision, StudyStage, StudyState

Study = Annotated[str, typer.Argument(metavar="STUDY", help="Study Instance UID.")]
_ATTEMPTS = 5


def add_to(gateway: typer.Typer) -> None:
    studies = typer.Typer(no_args_is_help=True, help="Studies that the gateway received.")
    studies.command("list", epilog="Example: consilium gateway studies list --stage failed")(list_studies)
    studies.command("show", epilog="Example: consilium gateway studies show 1.2.826.0.1.3680043.8.498.1")(show_study)
    studies.command(epilog="Example: consilium gateway studies replay 1.2.826.0.1.3680043.8.498.1")(replay)
    studies.command(epilog="Example: consilium gateway studies ignore 1.2.826.0.1.3680043.8.498.1")(ignore)
    gateway.add_typer(studies, name="studies")
    gateway.command(epilog="Example: consilium gateway unmatched")(unmatched)


def list_studies(
    stage: Annotated[str | None, typer.Option(help="assembling, requested, answered, failed or ignored.")] = None,
    limit: Limit = 100,
    settings: Settings = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """List studies, the one that last received something first. What is shown names patients: keep it apart."""
    stages = () if stage is None else (_stage(stage),)
    with gateway_store(settings) as store:
        lines = [_line(one) for one in store.studies.listed(stages=stages, limit=limit)]
    _show_lines("studies", lines, as_json=as_json)


def show_study(study: Study, settings: Settings = DEFAULT, as_json: AsJson = False) -> None:
    """Show a study: its state, what was answered, and what was delivered."""
    with gateway_store(settings) as store:
        state = _found(store, study)
        document = _line(state) | {
            "warnings": list(state.warnings),
            "instances": len(store.records.instances(study)),
            **_priors(store, study),
            "revisions": [_revision(one) for one in store.studies.revisions(study)],
        }
    if as_json:
        show_json(document)
        return
    tables = ("priors", "revisions")
    show(*(f"{name}: {value}" for name, value in document.items() if name not in tables and value is not None))
    if document.get("priors"):
        show(table_of("priors", document["priors"]))
    show(table_of("revisions", document["revisions"]) if document["revisions"] else "no revision yet")


def replay(study: Study, settings: Settings = DEFAULT) -> None:
    """Look at a study anew, as if it had just arrived; what was delivered is not delivered again."""
    from hospital.store.state import StudyStage

    with gateway_store(settings) as store:
        _change(store, study, StudyStage.ASSEMBLING, due=True)
    show(f"{study}: is looked at again")


def ignore(study: Study, settings: Settings = DEFAULT) -> None:
    """Leave a study alone, whatever arrives of it; `replay` takes it up again."""
    from hospital.store.state import StudyStage

    with gateway_store(settings) as store:
        _change(store, study, StudyStage.IGNORED, due=False)
    show(f"{study}: is ignored from now on")


def unmatched(limit: Limit = 100, settings: Settings = DEFAULT, as_json: AsJson = False) -> None:
    """List messages not understood as a whole, studies that failed or take no route, and results without addressee."""
    from hospital.store.state import StudyStage

    with gateway_store(settings) as store:
        messages = [message_line(one) for one in store.records.messages(with_problem=True, limit=limit)]
        stages = (StudyStage.FAILED, StudyStage.IGNORED)
        studies = [_line(one) for one in store.studies.listed(stages=stages, limit=limit)]
        results = [_unaddressed(one) for one in store.outbox.unaddressed(limit)]
    found = {"messages": messages, "studies": studies, "results": results}
    if as_json:
        show_json(found)
        return
    for title, lines in found.items():
        _show_lines(title, lines, as_json=False)


def _show_lines(title: str, lines: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        show_json(lines)
    else:
        show(table_of(title, lines) if lines else f"no {title}")


def _stage(given: str) -> StudyStage:
    from hospital.store.state import StudyStage

    try:
        return StudyStage(given)
    except ValueError:
        raise InputError("--stage", given, f"must be one of {', '.join(StudyStage)}") from None


def _found(store: Store, study: str) -> StudyState:
    state = store.studies.get(study)
    if state is None:
        raise InputError("STUDY", study, "must be a study of this gateway; `consilium gateway studies list` has them")
    return state


def _change(store: Store, study: str, stage: StudyStage, *, due: bool) -> None:
    """The gateway may save the same study at any moment: then it is read again."""
    from hospital.store.state import StudyChanged

    for attempt in range(_ATTEMPTS):
        state = _found(store, study)
        changed = replace(
            state, stage=stage, due=store.clock() if due else None, attempts=0, problem=None, by_hand=not due
        )
        try:
            store.studies.save(changed)
        except StudyChanged:
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            return


def _line(state: StudyState) -> dict[str, Any]:
    return {
        "study": state.study,
        "accession": None if state.accession is None else state.accession.value,
        "patient": None if state.patient is None else state.patient.value,
        "stage": state.stage.value,
        "route": state.route,
        "received": f"{state.last:%Y-%m-%d %H:%M:%S}",
        "due": None if state.due is None else f"{state.due:%Y-%m-%d %H:%M:%S}",
        "problem": state.problem,
    }


def _revision(one: Revision) -> dict[str, Any]:
    return {"number": one.number, "time": f"{one.time:%Y-%m-%d %H:%M:%S}", "revision": one.revision}


def _priors(store: Store, study: str) -> dict[str, Any]:
    search = store.priors.get(study)
    if search is None:
        return {}
    priors = [
        {"study": one.study, "source": one.source, "outcome": one.outcome.value, "reason": one.reason}
        for one in search.found
    ]
    return {
        "priors": priors,
        "priors_due": None if search.due is None else f"{search.due:%Y-%m-%d %H:%M:%S}",
        "priors_problem": search.problem,
    }


def _unaddressed(one: QueuedDelivery) -> dict[str, Any]:
    return {
        "number": one.number,
        "destination": one.delivery.destination,
        "study": one.delivery.study,
        "problem": one.problem,
    }
