"""`consilium rollout`: a version's way from shadow over canary to champion."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consilium.cli.running.audit_log import opened_store
from consilium.cli.shared.console import AsJson, log_to_terminal, show, show_json
from consilium.domain.errors import InputError, RegistryError

if TYPE_CHECKING:
    from service.rollout.rollout_state import RolloutState
    from service.rollout.rollout_verdict import Verdict

_STOPPED = 4
Name = Annotated[str, typer.Argument(help="Registered model, such as consilium-phantom-demo.")]
Version = Annotated[str | None, typer.Argument(help="Number, or @challenger; the one on its way unless given.")]


def add_to(app: typer.Typer) -> None:
    rollout = typer.Typer(no_args_is_help=True, help="A version's way to champion: shadow, canary, promotion.")
    rollout.command(epilog="Example: consilium rollout run consilium-mine @challenger --plan deploy/rollout.yaml")(run)
    rollout.command(epilog="Example: consilium rollout status consilium-mine --json")(status)
    rollout.command(epilog="Example: consilium rollout abort consilium-mine --reason 'complaints of ward 3'")(abort)
    app.add_typer(rollout, name="rollout")


def run(
    name: Name,
    version: Version = None,
    plan: Annotated[
        Path | None, typer.Option(help="YAML: stages and stop rules; needed to set out, kept from then on.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; kept with the version.")] = "rollout was asked for",
    once: Annotated[bool, typer.Option("--once", help="One look and at most one step, as for cron.")] = False,
) -> None:
    """Walk a version through the stages of a plan, as the audit log's answers allow; killed, the same command goes on.

    The service follows the aliases `canary` and `shadow`, where CONSILIUM_CANARY and CONSILIUM_SHADOW name them. Ends
    with code 4 where a stop rule ended the rollout.
    """
    log_to_terminal()
    from service.rollout import walk
    from service.rollout.rollout_state import STOPPED, running

    if once and version is None and running(name) is None:
        show(f"{name}: no version is on its way")  # what a clock finds most of the time
        return
    number = _set_out(name, version, plan, reason)
    with opened_store() as store:
        if once:
            state, verdict = walk.step(store, name, number)
            _tell(state, verdict)
        else:
            state = walk.run(store, name, number, _tell, threading.Event())
    if state.status == STOPPED:
        recall = f"consilium audit-log recall --model {name} --version {number}"
        show(f"its answers: {recall}; those that were confirmed to be wrong: {recall} --wrong")
        raise typer.Exit(_STOPPED)


def status(name: Name, version: Version = None, as_json: AsJson = False) -> None:
    """Show where a version stands, every step that it took, and what the audit log shows of the present stage."""
    from service.rollout import walk
    from service.rollout.rollout_state import RUNNING, read_state, steps
    from service.rollout.rollout_verdict import judge

    number = _number(name, version)
    state = read_state(name, number)
    if state is None:
        raise RegistryError(f"{name} version {number}: has no rollout")
    reasons: tuple[str, ...] = ()
    if state.status == RUNNING:
        from datetime import UTC, datetime

        with opened_store() as store:
            evidence = walk.look(store, name, number, state)
        reasons = judge(state.plan, state.plan.stages[state.stage], evidence, state.since, datetime.now(UTC)).reasons
    taken = steps(name, number)
    if as_json:
        listed = [{"time": time, "step": line} for time, line in taken]
        show_json(state.to_json() | {"version": number, "now": list(reasons), "steps": listed})
        return
    show(*(f"{time}  {line}" for time, line in taken), *(f"now: {reason}" for reason in reasons))


def abort(
    name: Name,
    version: Version = None,
    reason: Annotated[str, typer.Option(help="Why; kept with the version.")] = "",
    as_json: AsJson = False,
) -> None:
    """Take a version out of shadow and canary; the service lets go of it with its next poll."""
    from service.rollout import walk

    if not reason.strip():
        raise InputError("--reason", reason, "must say why, for those who read the registry later")
    number = _number(name, version)
    state = walk.abort(name, number, reason.strip())
    if as_json:
        show_json(state.to_json() | {"version": number})
    else:
        show(f"{name} version {number}: {state.status}: {state.reason}")


def _set_out(name: str, version: str | None, plan: Path | None, reason: str) -> str:
    """The version's number; it sets out on `plan` where it has not yet."""
    from datetime import UTC, datetime

    from service.rollout.rollout_plan import load_plan
    from service.rollout.rollout_state import RUNNING, begin, ends_unfinished, read_state

    chosen = None if plan is None else load_plan(plan)
    number = _number(name, version)
    state = read_state(name, number)
    if state is not None and state.status == RUNNING:
        if chosen is not None and chosen.digest != state.plan.digest:
            raise InputError("--plan", str(plan), "must be the plan that the version set out on; or abort that first")
        return number
    if state is not None and ends_unfinished(name, number, state):
        return number
    if chosen is None:
        raise InputError("--plan", "none", "must be given where a version sets out")
    begin(name, number, chosen, reason, datetime.now(UTC))
    return number


def _number(name: str, version: str | None) -> str:
    from consilium.artifacts import model_registry as registry
    from service.rollout.rollout_state import running

    number = running(name) if version is None else registry.describe(name, version).version
    if number is None:
        raise InputError("version", "none", "must be given: no version of this model is on its way")
    return number


def _tell(state: RolloutState, verdict: Verdict) -> None:
    place = state.plan.stages[state.stage].title
    show(f"{state.status}, {place}: {'; '.join(verdict.reasons)}")
