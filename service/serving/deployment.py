"""Which models are loaded, in which role, and which of them answers a study.

The serving model is what the settings name. Beside it there may be a canary, which answers the studies of a share of
the patients, and a shadow, whose answers are only recorded (`service.serving.shadow`). Each follows its own alias.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING

from consilium.api.schemas import DeploymentInformation, RefusalAnswer
from consilium.domain.study import Study
from consilium.modalities.converter import Converter
from service.audit_log.deployment_log import NoteEvent
from service.observability.metrics import Metrics
from service.serving.live_model import LiveModel
from service.serving.served_model import Case, Model, Read, Role, decoder_converters, warm_up
from service.settings import Settings

if TYPE_CHECKING:
    from consilium.artifacts.model_registry import ResolvedModel
    from service.serving.alias_follower import Alias, Refusal


class Deployment:
    """The models of one service. `start` before anything else, `stop` at the end, both within the event loop.

    Parameters
    ----------
    load : callable
        Gives the model of a folder or of a fixed version.
    load_followed : callable
        Gives the model of a verified artifact, where the settings name an alias, which may move.
    thread : Executor
        The thread on which models answer callers.
    note : callable, optional
        Told of every model that is loaded, let go of or refused.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[Settings], Model],
        load_followed: Callable[[Settings, ResolvedModel], Model],
        thread: Executor,
        metrics: Metrics,
        note: NoteEvent | None = None,
    ) -> None:
        self._settings = settings
        self._load = load
        self._load_followed = load_followed
        self._thread = thread
        self._metrics = metrics
        self._note = note
        self._aliases: dict[Role, Alias] = {}
        self._live: dict[Role, LiveModel] = {}

    @property
    def ready(self) -> bool:
        """The serving model is loaded and has answered once."""
        return Role.SERVING in self._live

    @property
    def serving(self) -> Model:
        """The serving model; none before `start` has ended."""
        model = self.loaded(Role.SERVING)
        if model is None:
            raise RuntimeError("the deployment was not started")
        return model

    def loaded(self, role: Role) -> Model | None:
        """The model in `role`, where there is one now."""
        live = self._live.get(role)
        return None if live is None else live.current

    @property
    def converters(self) -> dict[str, tuple[Converter, ...]]:
        """What decoders can make of the files of each name for all models that are loaded now."""
        return decoder_converters([model for role in Role if (model := self.loaded(role)) is not None])

    async def start(self) -> None:
        """Load the serving model, and let it answer once; the others follow while it serves."""
        loop = asyncio.get_running_loop()
        model = await loop.run_in_executor(self._thread, self._first)
        self._begin(Role.SERVING, model)
        for role in self._aliases:
            if role is not Role.SERVING:
                self._begin(role)

    async def stop(self) -> None:
        """Look for no more models, and let go of those that are loaded."""
        live, self._live = self._live, {}
        await asyncio.gather(*(one.stop() for one in live.values()))

    async def poll(self) -> None:
        """Ask the registry now which models to go on with."""
        for live in self._live.values():
            await live.poll()

    def case(self, read: Read) -> Case:
        """What `read` gives, prepared for the model that is to answer it."""
        serving, canary = self.serving, self.loaded(Role.CANARY)
        if canary is not None and patient_share(read(serving.variables)) < self._canary_share:
            return Case.of(canary, read, Role.CANARY)
        return Case.of(serving, read)

    @property
    def _canary_share(self) -> float:
        """What the registry says of the version, else the setting."""
        alias = self._aliases.get(Role.CANARY)
        return self._settings.canary_share if alias is None or alias.share is None else alias.share

    def information(self) -> DeploymentInformation:
        """The part of `GET /v1/model` about these models."""
        alias = self._aliases.get(Role.SERVING)
        canary, shadow = self.loaded(Role.CANARY), self.loaded(Role.SHADOW)
        registry = None if alias is None else "reachable" if alias.reachable else "unreachable"
        return DeploymentInformation.model_validate(
            {
                "follows": None if alias is None else alias.source,
                "since": self._live[Role.SERVING].since,
                "registry": registry,
                "last_refusal": None if alias is None else _refusal_answer(alias.last_refusal),
                "canary": None if canary is None else canary.identity.to_json(),
                "canary_share": 0.0 if canary is None else self._canary_share,
                "shadow": None if shadow is None else shadow.identity.to_json(),
            }
        )

    def _begin(self, role: Role, model: Model | None = None) -> None:
        alias = self._aliases.get(role)
        live = LiveModel(
            role,
            None if alias is None else alias.follow,
            self._thread,
            self._metrics,
            self._settings.poll_s,
            self._note,
        )
        self._live[role] = live
        live.begin(model)

    def _first(self) -> Model:
        """The model to begin with. On the model's thread: torch keeps its thread count per thread."""
        from consilium.artifacts.model_registry import follows_alias
        from consilium.system.threads import limit_threads

        limit_threads(self._settings.model_threads)
        if self._settings.canary is not None:
            self._follow(Role.CANARY, self._settings.canary)
        if self._settings.shadow is not None:
            self._follow(Role.SHADOW, self._settings.shadow)
        if follows_alias(self._settings.model):
            return self._follow(Role.SERVING, self._settings.model).first()
        model = self._load(self._settings)
        warm_up(model)
        return model

    def _follow(self, role: Role, source: str) -> Alias:
        from service.serving.alias_follower import Alias
        from service.serving.contract import Contract

        expected = (lambda: Contract.of(self.serving)) if role is Role.CANARY else None
        alias = Alias(source, role, partial(self._load_followed, self._settings), self._metrics, expected, self._note)
        self._aliases[role] = alias
        return alias


def patient_share(study: Study) -> float:
    """Where a study stands among all, from 0 to 1: the same for all studies of one patient.

    By the digest of the patient's id where a record holds it, or the pseudonym; else by the digests of all records.
    """
    patients = sorted({record.patient_digest for record in study.records if record.patient_digest})
    named = patients[0] if patients else study.patient_id
    records = sorted(study.input_digests().items())
    text = f"patient\n{named}" if named else "records\n" + "\n".join(f"{place} {digest}" for place, digest in records)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def _refusal_answer(refusal: Refusal | None) -> RefusalAnswer | None:
    if refusal is None:
        return None
    model = refusal.identity
    return RefusalAnswer(model=model, reason=refusal.reason.value, detail=refusal.detail, time=refusal.time)
