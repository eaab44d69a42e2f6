"""An alias of the registry, followed: `first` gives the model to begin with, `follow` the one to go on with.

A version is taken when its artifact is what was registered, its model loads, answers its reference studies as it
should, keeps the contract and answers. Whatever else it is, it is refused once: it is not tried again until the alias
stands for something else. Everything here blocks and belongs on a thread of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from consilium.artifacts.local_cache import local_copy
from consilium.artifacts.mlflow_store import ask_briefly
from consilium.artifacts.model_registry import ResolvedModel, look_up, resolve
from consilium.domain.diagnosis import ModelIdentity
from consilium.domain.errors import (
    AlteredArtifact,
    ConsiliumError,
    ModelFailure,
    NotRegistered,
    RegistryError,
    RegistryUnreachable,
    UnsupportedArtifact,
)
from service.audit_log.deployment_log import REFUSED, ModelEvent, NoteEvent
from service.observability.metrics import Metrics
from service.serving import last_verified
from service.serving.canary_share import read_share
from service.serving.contract import Contract
from service.serving.served_model import Model, Role, warm_up

logger = logging.getLogger("consilium.service")

_LONGEST_DETAIL = 300


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
        The contract that a version must keep. By default that of the version before it; a shadow, whose answers reach
        nobody, keeps none.
    note : callable, optional
        Told of every refusal.

    Attributes
    ----------
    share : float or None
        Of a canary: which share of the patients the registry wants it to answer, where it says so.
    """

    def __init__(
        self,
        source: str,
        role: Role,
        load: Callable[[ResolvedModel], Model],
        metrics: Metrics,
        expected: Callable[[], Contract] | None = None,
        note: NoteEvent | None = None,
    ) -> None:
        self.source = source
        self.role = role
        self.last_refusal: Refusal | None = None
        self.reachable = True
        self.share: float | None = None
        self._registered = True
        self._refused: ModelIdentity | None = None
        self._load = load
        self._metrics = metrics
        self._expected = expected
        self._note = note
        ask_briefly()  # the next poll asks again anyway

    def first(self) -> Model:
        """The model that the alias stands for; where it is refused or the registry away, the last verified one.

        Raises
        ------
        ConsiliumError
            Where neither is available.
        """
        kept = last_verified.read(self.source)
        try:
            return self._accepted(self._looked_up(), None if kept is None else kept.contract)
        except (RegistryError, Refused):
            if kept is None:
                raise
        logger.warning("%s: starting from the last verified copy, version %s", self.source, kept.version)
        found = ResolvedModel(local_copy(kept.manifest_digest), kept.identity)
        return self._loaded(found, kept.contract)

    def follow(self, loaded: Model | None) -> Model | None:
        """The model to go on with: `loaded`, or the one that the alias has moved to, ready to answer.

        None where there is no such alias, or none any more, in a role that need not be filled.
        """
        try:
            identity = self._looked_up()
            if identity == self._refused or (loaded is not None and identity == loaded.identity):
                return loaded
            return self._accepted(identity, None if loaded is None else Contract.of(loaded))
        except NotRegistered:
            return loaded if self.role is Role.SERVING else None
        except (Refused, RegistryError):
            return loaded

    def _looked_up(self) -> ModelIdentity:
        try:
            identity = look_up(self.source)
            if self.role is Role.CANARY:
                self.share = read_share(self.source)
        except NotRegistered as error:
            self._note_answer()
            self._note_missing(error)
            raise
        except RegistryError as error:
            self._note_outage(error)
            raise
        self._note_answer()
        if not self._registered:
            logger.info("%s: the registry has it now", self.source)
        self._set_registered(registered=True)
        if identity != self._refused:
            self._refused = None
        return identity

    def _accepted(self, identity: ModelIdentity, contract: Contract | None) -> Model:
        try:
            return self._taken(identity, contract)
        except RegistryUnreachable as error:
            self._note_outage(error)
            raise
        except Exception as error:  # noqa: BLE001 - whatever a bad version breaks, the serving one stays
            raise self._refusal(identity, error) from None

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
        if self.role is not Role.SHADOW:
            self._require(Contract.of(model), contract if self._expected is None else self._expected())
        try:
            warm_up(model)
        except Exception as error:
            if _out_of_memory(error):
                raise
            raise Refused(Reason.ANSWERS, f"it does not answer a synthetic study: {_first_line(error)}") from None
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

    def _refusal(self, identity: ModelIdentity, error: Exception) -> Refused:
        reason, detail = _reason(error), _first_line(error)
        self.last_refusal, self._refused = Refusal(identity, reason, detail, datetime.now(UTC)), identity
        if self._note is not None:
            self._note(ModelEvent(self.role.value, REFUSED, identity, reason.value, detail))
        self._metrics.refusals.labels(self.role.value, reason.value).inc()
        logger.error("%s: version %s is refused (%s): %s", self.source, identity.version, reason, detail)
        return Refused(reason, detail)

    def _note_answer(self) -> None:
        if not self.reachable:
            logger.info("%s: the registry answers again", self.source)
        self._set_reachable(reachable=True)

    def _note_missing(self, error: NotRegistered) -> None:
        if self._registered:
            logger.warning("%s: cannot be followed until it is registered: %s", self.source, _first_line(error))
        self._set_registered(registered=False)

    def _note_outage(self, error: RegistryError) -> None:
        if self.reachable:
            logger.warning(
                "%s: the registry is unreachable; the loaded model goes on serving: %s", self.source, _first_line(error)
            )
        self._set_reachable(reachable=False)

    def _set_reachable(self, *, reachable: bool) -> None:
        self.reachable = reachable
        self._metrics.registry_reachable.labels(self.role.value).set(reachable)

    def _set_registered(self, *, registered: bool) -> None:
        self._registered = registered
        self._metrics.alias_registered.labels(self.role.value).set(registered)


def _reason(error: Exception) -> Reason:
    if isinstance(error, Refused):
        return error.reason
    if _out_of_memory(error):
        return Reason.MEMORY
    if isinstance(error, ModelFailure):
        return Reason.ANSWERS
    if isinstance(error, AlteredArtifact):
        return Reason.DIGEST
    return Reason.FORMAT if isinstance(error, UnsupportedArtifact) else Reason.LOAD


def _out_of_memory(error: BaseException | None) -> bool:
    """Whether `error`, or what it came from, is a lack of memory: Python, torch on a GPU, torch on the CPU."""
    while error is not None:
        is_torch = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
        if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and is_torch):
            return True
        error = error.__cause__ or error.__context__
    return False


def _first_line(error: Exception) -> str:
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    return line if len(line) <= _LONGEST_DETAIL else f"{line[:_LONGEST_DETAIL]}…"
