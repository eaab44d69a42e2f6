"""Registry: registered models, their versions and aliases; `consilium.artifacts.local_cache` keeps their artifacts on
this machine.

Each recipe is one registered model, ``consilium-<name>``. Three aliases say what a version is for: `CHALLENGER`
(newest that passed its gates), `CHAMPION` (what serves), `PREVIOUS` (what served before). A version's tags hold the
digest of its artifact's manifest, by which every copy is checked, and when and why it was promoted or taken back.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consilium import __version__
from consilium.artifacts.local_cache import fetched_copy
from consilium.artifacts.manifest import read_findings, read_recipe, verify
from consilium.artifacts.mlflow_store import open_store, store_errors, tracking_uri
from consilium.artifacts.packed_model import is_packed, read_packed
from consilium.artifacts.registry_client import MlflowRegistry, RegistryClient, open_registry
from consilium.artifacts.registry_tables import StoredVersion
from consilium.configuration.recipe import Recipe
from consilium.domain.diagnosis import ModelIdentity
from consilium.domain.errors import AlteredArtifact, InputError, NotRegistered, RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models.model import ModelInfo

logger = logging.getLogger(__name__)

CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"
DIGEST_TAG = "manifest_digest"
UNREGISTERED = "unregistered"
"""Version of a model that is loaded from a folder."""

_SOURCE = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[0-9]+))")
_SOURCE_RULE = "must be a model folder, models:/NAME@ALIAS or models:/NAME/VERSION"
_COHORT_TABLES = ("studies.csv", "metadata.csv")
"""What tells a cohort's folder, which is easily given in a model's place."""
_EVENT = re.compile(r"(?P<action>promoted|restored|rolled back) (?P<time>\d{4}-\d\d-\d\dT[\d:.]+Z)")


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A verified artifact on this machine, and what it is called."""

    folder: Path
    identity: ModelIdentity


@dataclass(frozen=True, slots=True)
class Event:
    """One promotion, restoration or roll-back of a version, with its reason."""

    time: str
    action: str
    reason: str

    def to_json(self) -> dict[str, str]:
        return {"time": self.time, "action": self.action, "reason": self.reason}


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


def resolve(source: str) -> ResolvedModel:
    """A verified local copy of the model that `source` names: a folder, or ``models:/name@alias``, ``models:/name/3``.

    A folder is an artifact, which nobody has registered as far as it knows, or a packed model
    (`consilium.artifacts.packed_model`).

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
        digest = verify(folder)
        return ResolvedModel(folder, ModelIdentity(read_recipe(folder).registered_name, UNREGISTERED, digest))
    parts = _parts(source)
    registry = open_registry()
    found, identity = _looked_up(registry, parts)
    if not re.fullmatch(r"[0-9a-f]{64}", identity.manifest_digest):
        raise AlteredArtifact(f"{found.name} version {found.version}: has no {DIGEST_TAG}, so nothing can vouch for it")
    return ResolvedModel(fetched_copy(registry, identity), identity)


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
    name = recipe.registered_name
    client = open_store(create=True)
    with store_errors():
        _create_model(client, name, recipe.description)
        known = MlflowRegistry(client).versions(name)
        again = [int(v.version) for v in known if v.run_id == run_id and v.tags.get(DIGEST_TAG) == digest]
        if again:
            version = str(max(again))
        else:
            own = {DIGEST_TAG: digest, "recipe": recipe.name, "consilium": __version__}
            logged = _log_pyfunc(artifact_folder, recipe, run_id)
            made = client.create_model_version(
                name, logged.model_uri, run_id=run_id, model_id=logged.model_id, tags={**tags, **own}
            )
            version = str(made.version)
        if all(int(v.version) <= int(version) for v in known):
            client.set_registered_model_alias(name, CHALLENGER, version)
    return version


def promote(name: str, version: str, reason: str) -> RegisteredVersion:
    """Make `version` (a number, or ``@alias``) the champion; the champion so far becomes ``previous``.

    Raises
    ------
    InputError
        Without a reason.
    RegistryError
        Where there is no such version, or it is the champion already.
    """
    _require_reason(reason)
    registry = open_registry()
    found = _version(registry, name, version)
    champion = _aliases(registry, name).get(CHAMPION)
    if champion == found.version:
        raise RegistryError(f"{name} version {champion}: is the {CHAMPION} already")
    # The champion moves last: an interrupt before leaves serving what was serving.
    _record(registry, name, found.version, "promoted", reason)
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
        _record(registry, name, champion, "rolled back", reason)
    _record(registry, name, previous, "restored", reason)
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


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise InputError("reason", reason, "must say why, for those who read the record later")


def _record(registry: RegistryClient, name: str, version: str, action: str, reason: str) -> None:
    now = datetime.now(UTC).isoformat(timespec="microseconds").removesuffix("+00:00")
    registry.set_tag(name, version, f"{action} {now}Z", reason.strip())


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
    events = []
    for key, reason in version.tags.items():
        parts = _EVENT.fullmatch(key)
        if parts is not None:
            events.append(Event(parts["time"], parts["action"], reason))
    return RegisteredVersion(
        name=version.name,
        version=version.version,
        aliases=tuple(sorted(alias for alias, number in aliases.items() if number == version.version)),
        created=datetime.fromtimestamp(version.created_ms / 1000, UTC),
        run_id=version.run_id,
        manifest_digest=version.tags.get(DIGEST_TAG, ""),
        tags={key: value for key, value in sorted(version.tags.items()) if not _EVENT.fullmatch(key)},
        events=tuple(sorted(events, key=lambda event: event.time)),
    )


def _create_model(client: MlflowClient, name: str, description: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _log_pyfunc(artifact_folder: Path, recipe: Recipe, run_id: str) -> ModelInfo:
    """Log a models-from-code pyfunc over the artifact, for consumers that know MLflow alone."""
    import mlflow

    from consilium.artifacts.pyfunc_signature import ARTIFACT, input_example, pip_requirements, signature

    package = Path(__file__).parents[1]
    mlflow.set_tracking_uri(tracking_uri())
    with _active_run(run_id):
        return mlflow.pyfunc.log_model(
            name="model",
            python_model=str(package / "inference" / "pyfunc_model.py"),
            artifacts={ARTIFACT: str(artifact_folder.resolve())},
            code_paths=[str(package)],
            pip_requirements=pip_requirements(),
            signature=signature(read_findings(artifact_folder)),
            input_example=input_example(),
            metadata={"recipe": recipe.name},
        )


def _active_run(run_id: str) -> AbstractContextManager[object]:
    import mlflow

    active = mlflow.active_run()
    if active is not None and active.info.run_id == run_id:
        return nullcontext()
    return mlflow.start_run(run_id=run_id, nested=active is not None)
