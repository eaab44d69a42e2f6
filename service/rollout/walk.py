"""One step on a version's way, and all of them: look at the audit log → judge → move the aliases → note it.

Each step is whole by itself. Killed anywhere, the same command goes on where the registry says that the version stands.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from consilium.artifacts import model_registry as registry
from consilium.domain.errors import RegistryError
from service.audit_log.store import Store
from service.rollout.rollout_evidence import AnsweredSince, Evidence, gather
from service.rollout.rollout_state import (
    PROMOTED,
    RUNNING,
    STOPPED,
    RolloutState,
    align_aliases,
    moved,
    read_state,
    write,
)
from service.rollout.rollout_verdict import Action, Verdict, judge

_log = logging.getLogger(__name__)


def look(store: Store, name: str, version: str, state: RolloutState) -> Evidence:
    """What the audit log shows since the stage began."""
    answers = store.recall(AnsweredSince(name, state.since))
    return gather(answers, version, state.plan.stages[state.stage].role)


def step(store: Store, name: str, version: str, now: datetime | None = None) -> tuple[RolloutState, Verdict]:
    """Judge the stage in which `version` is, and go on, stop or wait.

    Returns
    -------
    RolloutState, Verdict
        Where it stands afterwards, and why.

    Raises
    ------
    RegistryError
        Where it is not on its way, or may not be promoted.
    AuditLogUnavailable
    """
    now = now or datetime.now(UTC)
    state = read_state(name, version)
    if state is None:
        raise RegistryError(f"{name} version {version}: has no rollout")
    if state.status != RUNNING:
        align_aliases(name, version, state)
        return state, Verdict(Action.WAIT, (state.reason,))
    if registry.CHAMPION in registry.describe(name, version).aliases:  # killed between promotion and its note
        return _ended(name, version, moved(state, now, "is the champion", status=PROMOTED)), Verdict(Action.ADVANCE, ())
    align_aliases(name, version, state)
    stage = state.plan.stages[state.stage]
    verdict = judge(state.plan, stage, look(store, name, version, state), state.since, now)
    reason = "; ".join(verdict.reasons)
    if verdict.action is Action.STOP:
        return _ended(name, version, moved(state, now, reason, status=STOPPED)), verdict
    if verdict.action is Action.WAIT:
        return state, verdict
    if state.stage + 1 < len(state.plan.stages):
        state = moved(state, now, reason, stage=state.stage + 1)
        write(name, version, state)
        align_aliases(name, version, state)
        return state, verdict
    registry.promote(name, version, f"rollout: {reason}")
    return _ended(name, version, moved(state, now, reason, status=PROMOTED)), verdict


def abort(name: str, version: str, reason: str) -> RolloutState:
    """Take `version` out of shadow and canary, for good; callers get the champion's answers from the next poll on.

    Raises
    ------
    RegistryError
        Where it is not on its way.
    """
    state = read_state(name, version)
    if state is None or state.status != RUNNING:
        raise RegistryError(f"{name} version {version}: is not on its way")
    return _ended(name, version, moved(state, datetime.now(UTC), reason, status=STOPPED))


def run(
    store: Store, name: str, version: str, tell: Callable[[RolloutState, Verdict], None], stop: threading.Event
) -> RolloutState:
    """Take steps until the way ends or `stop` is set; `tell` is called with each verdict that differs from the last."""
    last: tuple[RolloutState, Verdict] | None = None
    while True:
        now = step(store, name, version)
        if now != last:
            tell(*now)
        last = now
        if now[0].status != RUNNING or stop.wait(now[0].plan.poll_s):
            return now[0]


def _ended(name: str, version: str, state: RolloutState) -> RolloutState:
    """The end is noted before the aliases move: a version that was stopped never comes back by itself."""
    write(name, version, state)
    align_aliases(name, version, state)
    _log.info("%s version %s: %s: %s", name, version, state.status, state.reason)
    return state
