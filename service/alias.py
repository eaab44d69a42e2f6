"""An alias of the registry, followed: `first` gives the model to begin with, `newer` the one to go on with.

A version is taken when its artifact is what was registered, its model loads, keeps the contract and answers. Whatever
else it is, it is refused once: it is not tried again until the alias stands for something else. Everything here blocks
and belongs on a thread of its own.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from consilium.diagnosis import ModelIdentity
from consilium.errors import (
    AlteredArtifact,
    ConsiliumError,
    RegistryError,
    RegistryUnreachable,
    UnsupportedArtifact,
)
from consilium.registry import ResolvedModel, local_copy, look_up, resolve
from service import last_verified
from service.contract import Contract
from service.metrics import Metrics
from service.model import Model, warm_up

logger = logging.getLogger("consilium.service")

_LONGEST_DETAIL = 300
_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
"""MLflow's own defaults ask a dead server for minutes; the next poll asks again anyway."""


class Reason(StrEnum):
    """Why a version was refused."""

    DIGEST = "digest"
    FORMAT = "format"
    LOAD = "load"
    MEMORY = "memory"
    FINDINGS = "findings"
    MODALITIES = "modalities"
    ANSWERS = "answers"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A version that was not taken."""

    identity: ModelIdentity
    reason: Reason
    detail: str
    time: datetime


class Refused(ConsiliumError):
    """A version that loads, and still cannot be taken."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Alias:
    """Follows `source`, ``models:/name@alias``, for one role of the service.

    Parameters
    ----------
    load : callable
        Gives the model of a verified artifact.
    expected : callable, optional
        The contract that a version must keep, where it is somebody else's. By default it is that of the version that
        served last; a shadow, whose answers reach nobody, needs none: ``free=True``.
    """

    def __init__(
        self,
        source: str,
        role: str,
        load: Callable[[ResolvedModel], Model],
        metrics: Metrics,
        *,
        expected: Callable[[], Contract] | None = None,
        free: bool = False,
    ) -> None:
        self.source = source
        self.role = role
        self.last_refusal: Refusal | None = None
        self.reachable = True
        self._refused: ModelIdentity | None = None
        self._load = load
        self._metrics = metrics
        self._expected = expected
        self._free = free
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)

    def first(self) -> Model:
        """The model that the alias stands for; where it is refused or the registry away, the last verified one.

        Raises
        ------
        ConsiliumError
            Where neither is to be had.
        """
        kept = last_verified.read(self.source)
        model, problem = self._offered(None, None if kept is None else kept.contract)
        if model is not None:
            return model
        if kept is None:
            raise problem or RegistryError(f"{self.source}: no version of it can be taken")
        logger.warning("%s: starting from the last verified copy, version %s", self.source, kept.version)
        return self._loaded(local_copy(kept.identity), kept.contract)

    def newer(self, serving: Model) -> Model | None:
        """The model that the alias has moved to, ready to answer; None where it has not, or not to a good one."""
        return self._offered(serving.identity, Contract.of(serving))[0]

    def _offered(
        self, serving: ModelIdentity | None, contract: Contract | None
    ) -> tuple[Model | None, ConsiliumError | None]:
        try:
            identity = look_up(self.source)
        except RegistryError as error:
            self._note_outage(error)
            return None, error
        self._note_answer()
        if identity in (serving, self._refused):
            return None, None
        self._refused = None
        try:
            return self._taken(identity, contract), None
        except RegistryUnreachable as error:
            self._note_outage(error)
            return None, error
        except Exception as error:  # noqa: BLE001 - whatever a bad version breaks, the serving one stays
            return None, self._refuse(identity, error)

    def _taken(self, identity: ModelIdentity, contract: Contract | None) -> Model:
        # By number: the alias may move again meanwhile.
        found = resolve(f"models:/{identity.name}/{identity.version}")
        model = self._loaded(found, contract)
        try:
            last_verified.note(self.source, found.identity, Contract.of(model))
        except OSError as error:
            logger.warning("%s: cannot be noted for a restart (%s)", self.source, error.strerror)
        return model

    def _loaded(self, found: ResolvedModel, contract: Contract | None) -> Model:
        model = self._load(found)
        if not self._free:
            self._require(Contract.of(model), contract if self._expected is None else self._expected())
        try:
            warm_up(model)
        except Exception as error:
            if _out_of_memory(error):
                raise
            raise Refused(Reason.ANSWERS, f"it does not answer a made-up study: {_first_line(error)}") from None
        return model

    def _require(self, offered: Contract, contract: Contract | None) -> None:
        if contract is None:
            return
        if not offered.same_findings(contract):
            rule = f"the service answers {contract.named_findings()}"
            raise Refused(Reason.FINDINGS, f"got {offered.named_findings()}, {rule}; {self._way_out()}")
        if offered.modalities != contract.modalities:
            rule = f"the service reads {', '.join(contract.modalities)}"
            raise Refused(Reason.MODALITIES, f"got {', '.join(offered.modalities)}, {rule}; {self._way_out()}")

    def _way_out(self) -> str:
        return f"to change that, stop the service and remove {last_verified.state_file(self.source).name}"

    def _refuse(self, identity: ModelIdentity, error: Exception) -> ConsiliumError:
        refusal = Refusal(identity, _reason(error), _first_line(error), datetime.now(UTC))
        self.last_refusal, self._refused = refusal, identity
        self._metrics.refusals.labels(self.role, refusal.reason.value).inc()
        logger.error(
            "%s: version %s is refused (%s): %s", self.source, identity.version, refusal.reason, refusal.detail
        )
        return error if isinstance(error, ConsiliumError) else Refused(refusal.reason, refusal.detail)

    def _note_outage(self, error: RegistryError) -> None:
        if self.reachable:
            logger.warning("%s: the registry does not tell; serving goes on: %s", self.source, _first_line(error))
        self._set_reachable(reachable=False)

    def _note_answer(self) -> None:
        if not self.reachable:
            logger.info("%s: the registry answers again", self.source)
        self._set_reachable(reachable=True)

    def _set_reachable(self, *, reachable: bool) -> None:
        self.reachable = reachable
        self._metrics.registry_reachable.labels(self.role).set(reachable)


def _reason(error: Exception) -> Reason:
    if isinstance(error, Refused):
        return error.reason
    if _out_of_memory(error):
        return Reason.MEMORY
    if isinstance(error, AlteredArtifact):
        return Reason.DIGEST
    return Reason.FORMAT if isinstance(error, UnsupportedArtifact) else Reason.LOAD


def _out_of_memory(error: BaseException | None) -> bool:
    """Whether `error`, or what it came from, says that memory is short: Python, torch on a GPU, torch on the CPU."""
    while error is not None:
        is_torch = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
        if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and is_torch):
            return True
        error = error.__cause__ or error.__context__
    return False


def _first_line(error: Exception) -> str:
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    return line if len(line) <= _LONGEST_DETAIL else f"{line[:_LONGEST_DETAIL]}…"
