"""What the service asks of a model, and a study as one model reads it.

A model may be replaced while requests are under way. What was prepared with one model's preprocessing means nothing to
another, so a `Case` carries the model that must answer it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from consilium.configuration.recipe import Recipe
from consilium.domain.diagnosis import AuditVerdict, Diagnosis, Explanation, ModelIdentity
from consilium.domain.errors import ModelFailure
from consilium.domain.findings import FindingSet
from consilium.domain.study import Study
from consilium.domain.variables import VariableTable
from consilium.inference.self_test import Acceptance, Tolerance
from consilium.modalities.converter import Converter
from consilium.modalities.registry import file_inputs, modality_of
from service.settings import Settings

if TYPE_CHECKING:
    from consilium.artifacts.model_registry import ResolvedModel
    from consilium.explain import Neighbours
    from consilium.modalities.weight_source import WeightSource
    from consilium.preprocessing.batch import Prepared

logger = logging.getLogger("consilium.service")


class Role(StrEnum):
    """What a model is loaded for."""

    SERVING = "serving"
    """Callers get its answers."""
    CANARY = "canary"
    """A share of the callers get its answers, those of some patients."""
    SHADOW = "shadow"
    """Nobody gets its answers: they are recorded."""


class Model(Protocol):
    """What the service asks of a `consilium.inference.diagnostician.Diagnostician`."""

    identity: ModelIdentity
    recipe: Recipe
    findings: FindingSet
    variables: VariableTable
    converters: Mapping[str, Converter]

    @property
    def information(self) -> Mapping[str, Any]: ...

    @property
    def weights(self) -> Mapping[str, tuple[WeightSource, ...]]: ...

    @property
    def audit(self) -> AuditVerdict: ...

    @property
    def card(self) -> Mapping[str, str]: ...

    @property
    def neighbours(self) -> Neighbours | None: ...

    @property
    def acceptance(self) -> Acceptance | None: ...

    def example(self) -> Study: ...

    def prepare(self, study: Study) -> Prepared: ...

    def diagnose_prepared(self, items: Sequence[Prepared]) -> list[Diagnosis]: ...

    def explain_prepared(
        self, item: Prepared, findings: Sequence[str] | None = None, level: str = "fast"
    ) -> Explanation: ...

    def similar_prepared(self, item: Prepared, count: int) -> Explanation: ...


Read: TypeAlias = Callable[[VariableTable], Study]
"""Reads what a caller sent: which codes mean something depends on the model that is to answer."""


def once_per_table(read: Read) -> Read:
    """`read`, called once for each table: serving model, canary and shadow mostly know the same variables.

    Not by a hash: that of a table is the hash of all its variables, and mostly there is one table.
    """
    studies: list[tuple[VariableTable, Study]] = []

    def read_once(variables: VariableTable) -> Study:
        for known, study in studies:
            if known is variables or known == variables:
                return study
        studies.append((variables, read(variables)))
        return studies[-1][1]

    return read_once


def decoder_converters(models: Sequence[Model]) -> dict[str, tuple[Converter, ...]]:
    """What decoders can make of the files of each name, so that no record as a whole need reach any of `models`.

    Without the names of files of which one of them needs the whole record.
    """
    found: dict[str, tuple[Converter, ...]] = {}
    for name in file_inputs():
        modality = modality_of(name).name
        of_models = [model.converters.get(modality) for model in models if modality in model.recipe.modalities]
        converters = {one.key: one for one in of_models if one is not None and one.in_decoder}
        if all(one is not None and one.in_decoder for one in of_models):
            found[name] = tuple(converters.values())
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A study as `model` reads it, and as what the model answers it; `read` reads it for another model."""

    model: Model
    prepared: Prepared
    read: Read
    role: Role = Role.SERVING

    @classmethod
    def of(cls, model: Model, read: Read, role: Role = Role.SERVING) -> Case:
        """What `read` gives, prepared for `model`; `InputError` where the model reads nothing of it."""
        return cls(model, model.prepare(read(model.variables)), read, role)

    def explain(self, findings: Sequence[str] | None, level: str) -> Explanation:
        return self.model.explain_prepared(self.prepared, findings, level)

    def similar(self, count: int) -> Explanation:
        return self.model.similar_prepared(self.prepared, count)


def diagnose(cases: Sequence[Case]) -> list[Diagnosis]:
    """One diagnosis per case, in their order; a batch of several models' cases is split by model."""
    groups: dict[int, list[int]] = {}
    for position, case in enumerate(cases):
        groups.setdefault(id(case.model), []).append(position)
    found: dict[int, Diagnosis] = {}
    for positions in groups.values():
        model = cases[positions[0]].model
        answers = model.diagnose_prepared([cases[position].prepared for position in positions])
        found.update(zip(positions, answers, strict=True))
    return [found[position] for position in range(len(cases))]


def load_diagnostician(settings: Settings) -> Model:
    """The model that `settings` name, a folder or a version of a registered model."""
    from consilium.artifacts.model_registry import resolve

    return load_version(settings, resolve(settings.model))


def load_version(settings: Settings, found: ResolvedModel) -> Model:
    """The model of one verified artifact on this machine, under the name that the registry gives it.

    It has answered its reference studies.

    Raises
    ------
    WrongAnswers
        Where these answers are off.
    """
    from consilium.artifacts.artifact import load_artifact
    from consilium.inference.diagnostician import Diagnostician, choose_device
    from consilium.system.threads import thread_count

    model = Diagnostician(
        load_artifact(found.folder),
        found.identity,
        choose_device(settings.device),
        settings.backend,
        thread_count(settings.model_threads),
    )
    tolerance = Tolerance(settings.reference_bound, settings.backend_bound, settings.backend_margin)
    accepted = model.accept(tolerance, settings.batch_size)
    logger.info(
        "%s version %s answers its reference studies: %d of them, by %s within %.4f of the plain model",
        found.identity.name,
        found.identity.version,
        accepted.studies,
        accepted.backend,
        accepted.largest_deviation,
    )
    return model


def warm_up(model: Model) -> None:
    """Answer and explain a synthetic study, so that the first caller does not wait for what is done once.

    Raises
    ------
    ModelFailure
        Where the answer is none: a finding missing, or a probability that is not one.
    """
    prepared = model.prepare(model.example())
    (diagnosis,) = model.diagnose_prepared([prepared])
    if tuple(result.finding for result in diagnosis.findings) != model.findings.names:
        raise ModelFailure(f"{_called(model)} answered other findings than it names")
    if not all(0 <= result.probability <= 1 for result in diagnosis.findings):
        raise ModelFailure(f"{_called(model)} gave a probability outside 0 to 1")
    model.explain_prepared(prepared)


def _called(model: Model) -> str:
    return f"{model.identity.name} version {model.identity.version}"
