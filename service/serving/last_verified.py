"""The last version that an alias stood for and that was good: what a service starts from when the registry is away.

One small file per alias, ``$CONSILIUM_HOME/live/<name>@<alias>.json``. It holds names and digests; the artifact itself
lies among the registry's local copies and is verified again whenever it is read.
"""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from consilium.artifacts.local_cache import models_folder
from consilium.domain.diagnosis import ModelIdentity
from consilium.system.durable import replace_file
from service.serving.contract import Contract

logger = logging.getLogger("consilium.service")


class LastVerified(BaseModel):
    """A version that served, and what its answers were about."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    name: str
    version: str
    manifest_digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    contract: Contract

    @property
    def identity(self) -> ModelIdentity:
        return ModelIdentity(self.name, self.version, self.manifest_digest)


def state_file(source: str) -> Path:
    """Where the last verified version of `source`, ``models:/name@alias``, is noted."""
    return _folder() / f"{source.removeprefix('models:/')}.json"


def read(source: str) -> LastVerified | None:
    """What was noted of `source`; None where nothing was, or where it cannot be read."""
    noted = _read(state_file(source))
    return noted if noted is not None and noted.source == source else None


def read_all() -> list[LastVerified]:
    """What the services of this home have noted, of any alias."""
    return [noted for path in sorted(_folder().glob("*.json")) if (noted := _read(path)) is not None]


def note(source: str, identity: ModelIdentity, contract: Contract) -> None:
    """Note that `identity` is good. The file appears whole or not at all.

    Raises
    ------
    OSError
    """
    path = state_file(source)
    noted = LastVerified(source=source, contract=contract, **identity.to_json())
    replace_file(path, (noted.model_dump_json(indent=1) + "\n").encode())


def _folder() -> Path:
    return models_folder().parent / "live"


def _read(path: Path) -> LastVerified | None:
    try:
        return LastVerified.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        logger.warning("%s cannot be read (%s): as if there were none", path, type(error).__name__)
        return None
