"""Registry: registered models, their versions and aliases; `consilium.artifacts.local_cache` keeps their artifacts on
this machine.

Each recipe is one registered model, ``consilium-<name>``. Three aliases say what a version is for: `CHALLENGER`
(newest that passed its gates), `CHAMPION` (what serves), `PREVIOUS` (what served before). A version's tags hold the
digest of its artifact's manifest, by which every copy is checked, and when and why it was promoted or taken back.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consilium import __version__
from consilium.artifacts.local_cache import ARTIFACTS, fetched_copy
from consilium.artifacts.manifest import ENCODER_FILES, MODEL_FILES, read_recipe, verify
from consilium.artifacts.mlflow_store import open_store, store_errors
from consilium.artifacts.packed_model import is_packed, read_packed
from consilium.artifacts.registry_client import MlflowRegistry, RegistryClient, open_registry
from consilium.artifacts.registry_tables import StoredVersion
from consilium.artifacts.version_events import (
    OVERRIDDEN,
    PROMOTED,
    RESTORED,
    ROLLED_BACK,
    Event,
    events_of,
    is_event,
    record_event,
    require_gate,
)
from consilium.configuration.recipe import Recipe
from consilium.domain.diagnosis import ModelIdentity
from consilium.domain.errors import AlteredArtifact, InputError, NotRegistered, RegistryError
from consilium.modalities.section import ENCODERS_FILE

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"
DIGEST_TAG = "manifest_digest"
KIND_TAG = "kind"
"""Of a version that is no model."""
PARAMETERS = "parameters"
WEIGHTS = "weights"
"""Tag with how many weights were trained of each part, as JSON: ``{"image": {"trained": 576, "all": 11000}}``."""
FUSION = "fusion"
"""Tag with the model's fusion and, behind a comma, by which figures it was chosen."""
UNREGISTERED = "unregistered"
"""Version of a model that is loaded from a folder."""

_SOURCE = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[0-9]+))")
_SOURCE_RULE = "must be a model folder, models:/NAME@ALIAS or models:/NAME/VERSION"
_COHORT_TABLES = ("studies.csv", "metadata.csv")
"""What tells a cohort's folder, which is easily given in a model's place."""
_ENCODERS = "encoders"


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A verified artifact on this machine, and what it is called."""

    folder: Path
    identity: ModelIdentity


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """One version of a registered model.

    Attributes
    ----------
    created : datetime
        UTC.
    tags : dict of str
        What training recorded: recipe, cohort digest, git commit; without the events.
    events : tuple of Event
        Oldest first.
    """

    name: str
    version: str
    aliases: tuple[str, ...]
    created: datetime
    run_id: str
    manifest_digest: str
    tags: dict[str, str]
    events: tuple[Event, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "aliases": list(self.aliases),
            "created": self.created.isoformat(),
            "run_id": self.run_id,
            "manifest_digest": self.manifest_digest,
            "tags": dict(self.tags),
            "events": [event.to_json() for event in self.events],
        }


# --- reading ---------------------------------------------------------------------------------------------------------


def resolve(source: str, needed: Sequence[str] = MODEL_FILES) -> ResolvedModel:
    """A verified local copy of the model that `source` names: a folder, or ``models:/name@alias``, ``models:/name/3``.

    A folder is an artifact, which nobody has registered as far as it knows, or a packed model
    (`consilium.artifacts.packed_model`).

    Parameters
    ----------
    needed : sequence of str
        Files of the artifact: those of a model, or of pretrained encoders.

    Raises
    ------
    InputError
        Where `source` names neither.
    RegistryError
        Where the registry has no such model, version or alias (`NotRegistered`), cannot be reached, or its copy is not
        what was registered.
    ArtifactError
        Where the folder is incomplete or altered.
    """
    if not source.startswith("models:"):
        folder = Path(source)
        if not source or not folder.is_dir():
            raise InputError("model", source, _SOURCE_RULE)
        if is_packed(folder):
            return ResolvedModel(*read_packed(folder))
        if any((folder / name).is_file() for name in _COHORT_TABLES):
            raise InputError("model", source, f"{_SOURCE_RULE}; this folder is a cohort")
        digest = verify(folder, needed)
        return ResolvedModel(folder, ModelIdentity(read_recipe(folder).registered_name, UNREGISTERED, digest))
    parts = _parts(source)
    registry = open_registry()
    found, identity = _looked_up(registry, parts)
    _require_kind(source, found, needed)
    if not re.fullmatch(r"[0-9a-f]{64}", identity.manifest_digest):
        raise AlteredArtifact(f"{found.name} version {found.version}: has no {DIGEST_TAG}, so nothing can vouch for it")
    return ResolvedModel(fetched_copy(registry, identity, needed), identity)


def follows_alias(source: str) -> bool:
    """Whether `source` is ``models:/name@alias``: a model that may become another one while it is served."""
    parts = _SOURCE.fullmatch(source)
    return parts is not None and parts["alias"] is not None


def look_up(source: str) -> ModelIdentity:
    """What ``models:/name@alias`` stands for now, as the registry says; nothing is fetched and nothing verified.

    Raises
    ------
    InputError, RegistryError
        As `resolve`.
    """
    parts = _parts(source)
    return _looked_up(open_registry(), parts)[1]


def list_models() -> list[str]:
    """Names of all registered models of this project."""
    return open_registry().models()


def list_versions(name: str) -> list[RegisteredVersion]:
    """All versions of the model `name`, newest first."""
    registry = open_registry()
    aliases = _aliases(registry, name)
    return [_registered(version, aliases) for version in registry.versions(name)]


def named_by_aliases() -> dict[str, str]:
    """The manifest digests that an alias of any model stands for, each with one such name: ``models:/NAME@ALIAS``."""
    versions = (version for name in list_models() for version in list_versions(name))
    return {v.manifest_digest: f"models:/{v.name}@{v.aliases[0]}" for v in versions if v.aliases}


def describe(name: str, version: str) -> RegisteredVersion:
    """One version: a number, or ``@alias``."""
    registry = open_registry()
    return _registered(_version(registry, name, version), _aliases(registry, name))


# --- writing ---------------------------------------------------------------------------------------------------------


def register(artifact_folder: Path, recipe: Recipe, run_id: str, tags: Mapping[str, str]) -> str:
    """Log the artifact with its run and register it as a new version with the alias ``challenger``.

    What was registered by the same run with the same digest is found again, so that an interrupted training can be
    resumed; it takes the alias from no newer version.

    Parameters
    ----------
    tags : mapping of str to str
        Of the version: cohort digest, git commit.

    Returns
    -------
    str
        The version.
    """
    digest = verify(artifact_folder)

    def make(client: MlflowClient, own: Mapping[str, str]) -> str:
        from consilium.artifacts.pyfunc_signature import log_pyfunc

        logged = log_pyfunc(artifact_folder, recipe, run_id)
        made = client.create_model_version(
            recipe.registered_name, logged.model_uri, run_id=run_id, model_id=logged.model_id, tags={**tags, **own}
        )
        return str(made.version)

    return _registered_once(recipe, run_id, digest, make)


def register_encoders(folder: Path, recipe: Recipe, run_id: str, tags: Mapping[str, str]) -> str:
    """As `register`, of the pretrained encoders in `folder`: plain files, which no pyfunc model answers for."""
    digest = verify(folder, ENCODER_FILES)

    def make(client: MlflowClient, own: Mapping[str, str]) -> str:
        client.log_artifacts(run_id, str(folder), f"{_ENCODERS}/{ARTIFACTS}/{_ENCODERS}")
        place = f"{client.get_run(run_id).info.artifact_uri}/{_ENCODERS}"
        kind = {KIND_TAG: _ENCODERS}
        made = client.create_model_version(recipe.registered_name, place, run_id=run_id, tags={**tags, **own, **kind})
        return str(made.version)

    return _registered_once(recipe, run_id, digest, make)


def _registered_once(
    recipe: Recipe, run_id: str, digest: str, make: Callable[[MlflowClient, Mapping[str, str]], str]
) -> str:
    """The version that `make` makes, or that an earlier call of the same run has made, as challenger."""
    name = recipe.registered_name
    client = open_store(create=True)
    with store_errors():
        _create_model(client, name, recipe.description)
        known = MlflowRegistry(client).versions(name)
        again = [int(v.version) for v in known if v.run_id == run_id and v.tags.get(DIGEST_TAG) == digest]
        own = {DIGEST_TAG: digest, "recipe": recipe.name, "consilium": __version__}
        version = str(max(again)) if again else make(client, own)
        if all(int(v.version) <= int(version) for v in known):
            client.set_registered_model_alias(name, CHALLENGER, version)
    return version


def promote(
    name: str, version: str, reason: str, *, gates: str | None = None, override: str | None = None
) -> RegisteredVersion:
    """Make `version` (a number, or ``@alias``) the champion; the champion so far becomes ``previous``.

    Parameters
    ----------
    gates : str or None
        SHA-256 of the gates that the version must have passed; None: any.
    override : str or None
        Why it becomes the champion whether or not it has passed; an event of the version.

    Raises
    ------
    InputError
        Without a reason.
    NotGated
        Where its newest gate did not pass, or measured other bytes, and there is no `override`.
    RegistryError
        Where there is no such version, or it is the champion already.
    """
    _require_reason(reason)
    if override is not None:
        _require_reason(override, "override")
    registry = open_registry()
    found = _version(registry, name, version)
    champion = _aliases(registry, name).get(CHAMPION)
    if champion == found.version:
        raise RegistryError(f"{name} version {champion}: is the {CHAMPION} already")
    if override is None:
        whose = f"{name} version {found.version}"
        require_gate(whose, found.tags.get(DIGEST_TAG, ""), events_of(found.tags), gates)
    else:
        record_event(registry, name, found.version, OVERRIDDEN, override)
    # The champion moves last: an interrupt before leaves serving what was serving.
    record_event(registry, name, found.version, PROMOTED, reason)
    if champion is not None:
        registry.set_alias(name, PREVIOUS, champion)
    registry.set_alias(name, CHAMPION, found.version)
    return describe(name, found.version)


def rollback(name: str, reason: str) -> RegisteredVersion:
    """Make the ``previous`` version the champion again; the version taken back keeps no alias of the two.

    Raises
    ------
    InputError
        Without a reason.
    RegistryError
        Where there is no previous version.
    """
    _require_reason(reason)
    registry = open_registry()
    aliases = _aliases(registry, name)
    previous, champion = aliases.get(PREVIOUS), aliases.get(CHAMPION)
    if previous is None:
        raise RegistryError(f"{name}: has no {PREVIOUS} version to go back to")
    if champion is not None:
        record_event(registry, name, champion, ROLLED_BACK, reason)
    record_event(registry, name, previous, RESTORED, reason)
    registry.set_alias(name, CHAMPION, previous)
    registry.delete_alias(name, PREVIOUS)
    return describe(name, previous)


# --- inside ----------------------------------------------------------------------------------------------------------


def _parts(source: str) -> re.Match[str]:
    parts = _SOURCE.fullmatch(source)
    if parts is None:
        raise InputError("model", source, _SOURCE_RULE)
    return parts


def _looked_up(registry: RegistryClient, parts: re.Match[str]) -> tuple[StoredVersion, ModelIdentity]:
    found = _version(registry, parts["name"], parts["version"] or f"@{parts['alias']}")
    return found, ModelIdentity(found.name, found.version, found.tags.get(DIGEST_TAG, ""))


def _require_kind(source: str, found: StoredVersion, needed: Sequence[str]) -> None:
    """`InputError` where encoders are registered and a model is asked for, or the other way round."""
    encoders = found.tags.get(KIND_TAG) == _ENCODERS
    if encoders != (ENCODERS_FILE in needed):
        got, wanted = ("are pretrained encoders", "a model") if encoders else ("is a model", "pretrained encoders")
        raise InputError("model", source, f"must be {wanted}; what is registered {got}")


def _require_reason(reason: str, field: str = "reason") -> None:
    if not reason.strip():
        raise InputError(field, reason, "must say why, for those who read the record later")


def _aliases(registry: RegistryClient, name: str) -> dict[str, str]:
    """Version of each alias of the model `name`; `NotRegistered` where there is no such model."""
    aliases = registry.aliases(name)
    if aliases is None:
        known = ", ".join(registry.models()) or "none"
        raise NotRegistered(f"model: got {name!r}, must be a registered model; there is: {known}")
    return aliases


def _version(registry: RegistryClient, name: str, version: str) -> StoredVersion:
    aliases = _aliases(registry, name)
    number = version
    if version.startswith("@"):
        if version[1:] not in aliases:
            known = ", ".join(sorted(aliases)) or "none"
            raise NotRegistered(f"model {name} has no alias {version[1:]!r}; there is: {known}")
        number = aliases[version[1:]]
    found = registry.version(name, number)
    if found is None:
        raise NotRegistered(f"{name}: got version {version!r}, must be one of its versions")
    return found


def _registered(version: StoredVersion, aliases: Mapping[str, str]) -> RegisteredVersion:
    return RegisteredVersion(
        name=version.name,
        version=version.version,
        aliases=tuple(sorted(alias for alias, number in aliases.items() if number == version.version)),
        created=datetime.fromtimestamp(version.created_ms / 1000, UTC),
        run_id=version.run_id,
        manifest_digest=version.tags.get(DIGEST_TAG, ""),
        tags={key: value for key, value in sorted(version.tags.items()) if not is_event(key)},
        events=events_of(version.tags),
    )


def _create_model(client: MlflowClient, name: str, description: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
