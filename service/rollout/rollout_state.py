"""Where a version stands on its way, kept in the registry as a tag of the version, with a line for every step.

Aliases follow the state: a rollout that was killed between two steps is put right by the next one.
"""

from __future__ import annotations

import getpass
import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from consilium.artifacts import model_registry as registry
from consilium.artifacts.registry_client import open_registry
from consilium.artifacts.version_events import require_gate
from consilium.domain.errors import NotRegistered, RegistryError
from service.rollout.rollout_plan import RolloutPlan, read_plan
from service.serving.canary_share import CANARY_SHARE

CANARY, SHADOW = "canary", "shadow"
"""Aliases that a service follows as CONSILIUM_CANARY and CONSILIUM_SHADOW."""
STATE_TAG, PLAN_TAG = "rollout", "rollout_plan"
RUNNING, PROMOTED, STOPPED = "running", "promoted", "stopped"
_STEP = "rollout "


@dataclass(frozen=True, slots=True)
class RolloutState:
    """Where a version stands.

    Attributes
    ----------
    stage : int
        Index in the plan's stages.
    since : datetime
        When the stage began, UTC.
    status : {"running", "promoted", "stopped"}
    reason : str
        Of the last step.
    by : str
        Account that took it.
    """

    plan: RolloutPlan
    stage: int
    since: datetime
    status: str
    reason: str
    by: str

    def to_json(self) -> dict[str, Any]:
        """All but the plan, of which the digest."""
        return asdict(self) | {"plan": self.plan.digest, "since": self.since.isoformat()}


def read_state(name: str, version: str) -> RolloutState | None:
    """Of a version that is on its way, or was; None of any other.

    Raises
    ------
    RegistryError
    """
    tags = registry.describe(name, version).tags
    if STATE_TAG not in tags:
        return None
    kept = json.loads(tags[STATE_TAG])
    plan = read_plan(json.loads(tags[PLAN_TAG]))
    return RolloutState(plan, **{**kept, "since": datetime.fromisoformat(kept["since"])})


def begin(name: str, version: str, plan: RolloutPlan, reason: str, now: datetime) -> RolloutState:
    """Note that `version` sets out on `plan`.

    Raises
    ------
    NotGated
        Where its newest gate did not pass: it could not be promoted in the end.
    RegistryError
        Where it serves already, or another version of the model is on its way.
    """
    other = running(name)
    if other is not None and other != version:
        raise RegistryError(f"{name} version {other}: is on its way; one version at a time")
    found = registry.describe(name, version)
    require_gate(f"{name} version {found.version}", found.manifest_digest, found.events, None)
    if registry.CHAMPION in found.aliases:
        raise RegistryError(f"{name} version {version}: is the {registry.CHAMPION} already")
    state = RolloutState(plan, 0, now, RUNNING, reason, getpass.getuser())
    open_registry().set_tag(name, version, PLAN_TAG, plan.model_dump_json())
    write(name, version, state)
    return state


def running(name: str) -> str | None:
    """The version of a model that is on its way."""
    for version in registry.list_versions(name):
        if STATE_TAG in version.tags and json.loads(version.tags[STATE_TAG])["status"] == RUNNING:
            return version.version
    return None


def ends_unfinished(name: str, version: str, state: RolloutState) -> bool:
    """Its end is noted, and it still answers as shadow or canary: what noted the end was killed before it let go."""
    aliases = open_registry().aliases(name) or {}
    return state.status != RUNNING and version in (aliases.get(SHADOW), aliases.get(CANARY))


def write(name: str, version: str, state: RolloutState) -> None:
    """Keep `state`, and a line about the step that led to it."""
    kept = {key: value for key, value in state.to_json().items() if key != "plan"}
    place = state.plan.stages[state.stage].title
    client = open_registry()
    moment = datetime.now(UTC).isoformat(timespec="microseconds").removesuffix("+00:00")
    client.set_tag(name, version, f"{_STEP}{moment}Z", f"{state.status}, {place}, by {state.by}: {state.reason}")
    client.set_tag(name, version, STATE_TAG, json.dumps(kept))


def moved(state: RolloutState, now: datetime, reason: str, **changes: Any) -> RolloutState:
    """`state` after a step of this account."""
    return replace(state, since=now, reason=reason, by=getpass.getuser(), **changes)


def steps(name: str, version: str) -> list[tuple[str, str]]:
    """When each step was taken, and what it was; oldest first."""
    tags = registry.describe(name, version).tags
    return sorted((key.removeprefix(_STEP), line) for key, line in tags.items() if key.startswith(_STEP))


def align_aliases(name: str, version: str, state: RolloutState) -> None:
    """Let the aliases of shadow and canary stand for what `state` says, and for no more."""
    stage = state.plan.stages[state.stage]
    wanted = stage.role if state.status == RUNNING else None
    client = open_registry()
    aliases = client.aliases(name)
    if aliases is None:
        raise NotRegistered(f"{name}: is no registered model")
    if stage.share is not None and wanted == CANARY:
        client.set_tag(name, version, CANARY_SHARE, str(stage.share))
    for alias in (SHADOW, CANARY):
        if alias == wanted and aliases.get(alias) != version:
            client.set_alias(name, alias, version)
        elif alias != wanted and aliases.get(alias) == version:
            client.delete_alias(name, alias)
