"""One soak from beginning to end: a registry with four versions, a service that follows an alias, callers, trouble."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil

from service.app.launch import RunningService
from service.auth.api_keys import create_key
from service.scopes import Scope
from tests.service.registered import overflowing, point, register, save_tiny
from tests.soak.callers import Callers, Outcome
from tests.soak.hostile import make_hostile
from tests.soak.studies import Expected, expectations, make_studies

NAME = "soak"
GOOD = 3
"""Versions that may answer; the one after them may not."""
_PATIENCE_S = 300.0
_SETTLED_BYTES = 1 << 20
SETTINGS: dict[str, object] = {
    "model_threads": 1,
    "device": "cpu",
    "poll_s": 0.3,
    "requests_per_minute": 10_000_000,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is asked. Events come when so many shares of the requests have had their answers."""

    requests: int
    concurrency: int = 32
    hostile_share: float = 0.05
    first_move: float = 0.1
    bad_move: float = 0.3
    worker_killed: float = 0.45
    second_move: float = 0.6
    all_killed: float = 0.8


@dataclass(frozen=True, slots=True)
class Swap:
    """What the service's processes held, idle, before and after the alias moved to `version`."""

    version: str
    before: int
    after: int
    seconds: float


@dataclass(slots=True)
class Trouble:
    """What was done to the service, and when."""

    swaps: list[Swap] = field(default_factory=list)
    down: list[tuple[str, float, float]] = field(default_factory=list)
    """From a kill until the service was ready again."""
    retired: dict[str, float] = field(default_factory=dict)
    """From when on a version may not begin an answer."""
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Soaked:
    """Everything that a verdict needs."""

    plan: Plan
    outcome: Outcome
    trouble: Trouble
    expected: list[Expected]
    record: Path
    seconds: float


def run(plan: Plan, folder: Path, tell: Callable[[str], None] = lambda _: None) -> Soaked:
    """Soak a service whose registry, record and keys lie in `folder`.

    Parameters
    ----------
    tell : callable
        Called with the progress, a line at a time.
    """
    with _environment(folder):
        tell("registering three good versions of a tiny model and a bad one")
        versions, expected = _versions(folder)
        token = create_key(folder / "keys.json", "soak", [Scope.READ, Scope.DIAGNOSE])[1]
        begun = time.monotonic()
        with ExitStack() as stack:
            campaign = stack.enter_context(_Campaign(plan, versions, folder, token, tell))
            outcome = campaign.run()
        return Soaked(plan, outcome, campaign.trouble, expected, folder / "audit-log.db", time.monotonic() - begun)


@contextmanager
def _environment(folder: Path) -> Iterator[None]:
    given = {"CONSILIUM_HOME": str(folder), "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _versions(folder: Path) -> tuple[list[str], list[Expected]]:
    """The good versions and the bad one, as the registry numbers them, and what the good ones say."""
    good = [save_tiny(folder / f"weights{seed}", seed) for seed in range(GOOD)]
    bad = overflowing(good[0], folder / "overflowing")
    versions = [register(artifact, NAME) for artifact in (*good, bad)]
    return versions, expectations(make_studies(), good)


class _Campaign:
    """A service that is troubled while callers ask."""

    def __init__(self, plan: Plan, versions: list[str], folder: Path, token: str, tell: Callable[[str], None]) -> None:
        self.trouble = Trouble()
        self._plan = plan
        self._versions = versions
        self._tell = tell
        self._settings = SETTINGS | {"keys": folder / "keys.json"}
        self._headers = {"Authorization": f"Bearer {token}"}
        self._source = point(NAME, versions[0])
        self._service = RunningService(self._source, self._settings, ready_within_s=_PATIENCE_S)
        self._callers = Callers(
            self._service.url,
            token,
            make_studies(),
            make_hostile(),
            requests=plan.requests,
            concurrency=plan.concurrency,
            hostile_share=plan.hostile_share,
        )

    def __enter__(self) -> _Campaign:
        self._tell("starting the service")
        self._service.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._service.__exit__(None, None, None)

    def run(self) -> Outcome:
        plan, (_, second, third, bad) = self._plan, self._versions
        with self._callers as callers:
            events: list[tuple[float, Callable[[], None]]] = [
                (plan.first_move, partial(self._move, second)),
                (plan.bad_move, partial(self._move_to_bad, bad, stays=second)),
                (plan.worker_killed, partial(self._kill_worker, stays=second)),
                (plan.second_move, partial(self._move, third)),
                (plan.all_killed, partial(self._kill_all, stays=third)),
            ]
            ends = [share for share, _ in events[1:]] + [1.0]
            for (share, event), end in zip(events, ends, strict=True):
                # However slow an event is, there are requests left for what comes after it.
                callers.allowed = round(end * plan.requests)
                callers.reach(round(share * plan.requests))
                event()
            callers.finish()
        return callers.outcome

    def _move(self, version: str) -> None:
        self._tell(f"request {self._callers.done}: the alias moves to version {version}")
        before, begun, old = self._idle_bytes(), time.monotonic(), self._deployed()["model"]["version"]
        point(NAME, version)
        self._until(lambda: self._deployed()["model"]["version"] == version)
        self.trouble.retired[old] = time.monotonic()
        seconds = self.trouble.retired[old] - begun
        self._pass(0.03)
        self.trouble.swaps.append(Swap(version, before, self._idle_bytes(), seconds))

    def _move_to_bad(self, bad: str, stays: str) -> None:
        self._tell(f"request {self._callers.done}: the alias moves to version {bad}, whose answers are no numbers")
        before, begun = self._idle_bytes(), time.monotonic()
        point(NAME, bad)
        self._until(lambda: self._deployed()["deployment"]["last_refusal"] is not None)
        seconds = time.monotonic() - begun
        self._require_version(stays, "after the bad version was refused")
        self._pass(0.03)
        self.trouble.swaps.append(Swap(f"{bad}, refused", before, self._idle_bytes(), seconds))

    def _kill_worker(self, stays: str) -> None:
        self._tell(f"request {self._callers.done}: the worker is killed; the alias stands for the bad version")
        worker = next(child for child in self._supervisor().children() if child.children())
        with self._down("worker killed"):
            worker.kill()
            worker.wait(_PATIENCE_S)
            self._until_ready()
        self._require_version(stays, "after the worker was killed")

    def _kill_all(self, stays: str) -> None:
        self._tell(f"request {self._callers.done}: every process is killed at once, and the service started again")
        family = [self._supervisor(), *self._supervisor().children(recursive=True)]
        with self._down("all killed"):
            for process in family:
                process.kill()
            _, left = psutil.wait_procs(family[1:], timeout=_PATIENCE_S)
            if left:
                self.trouble.wrong.append(f"{len(left)} processes outlive SIGKILL")
            self._service.__exit__(None, None, None)
            self._service = RunningService(
                self._source, self._settings, port=self._service.port, ready_within_s=_PATIENCE_S
            )
            self._service.__enter__()
        self._require_version(stays, "after the restart")

    @contextmanager
    def _down(self, what: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self.trouble.down.append((what, begun, time.monotonic()))
        self._tell(f"request {self._callers.done}: ready again after {time.monotonic() - begun:.1f} s")

    def _require_version(self, version: str, when: str) -> None:
        found = self._deployed()["model"]["version"]
        if found != version:
            self.trouble.wrong.append(f"version {found} is deployed {when}, must be {version}")

    def _pass(self, share: float) -> None:
        """Let some more requests be answered."""
        self._callers.reach(self._callers.done + round(share * self._plan.requests))

    def _idle_bytes(self) -> int:
        """What the service's processes hold of their own while nobody asks, once it changes no more."""
        with self._callers.silence():
            held, deadline = -_SETTLED_BYTES, time.monotonic() + 10
            while time.monotonic() < deadline:
                time.sleep(0.7)
                now = self._held_bytes()
                if abs(now - held) < _SETTLED_BYTES:
                    break
                held = now
            return now

    def _held_bytes(self) -> int:
        family = [self._supervisor(), *self._supervisor().children(recursive=True)]
        return sum(process.memory_full_info().uss for process in family)

    def _supervisor(self) -> psutil.Process:
        return psutil.Process(self._service.pid)

    def _deployed(self) -> dict[str, Any]:
        answer = httpx.get(f"{self._service.url}/v1/model", headers=self._headers, timeout=30)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def _until_ready(self) -> None:
        def is_ready() -> bool:
            try:
                return httpx.get(f"{self._service.url}/readyz", timeout=5).status_code == httpx.codes.OK
            except httpx.TransportError:
                return False

        self._until(is_ready)

    def _until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not holds():
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing happened for {_PATIENCE_S:g} s:\n{self._service.log()[-2000:]}")
            time.sleep(0.1)
