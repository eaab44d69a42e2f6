"""Settings of the audit log, which its command reads without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import quote, unquote

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from consilium.system.environment import home_folder

_SQLITE = "sqlite:///"
Seconds = Annotated[float, Field(gt=0)]


def embedded_keys() -> Path:
    """The keys of an audit log below ``CONSILIUM_HOME``."""
    return home_folder() / "audit-log.keys"


def embedded_url() -> SecretStr:
    """The SQLite file below ``CONSILIUM_HOME``."""
    return SecretStr(_file_url(home_folder() / "audit-log.db"))


def absolute_url(url: str) -> str:
    """`url`, which means the same file from any folder where it names one."""
    place = url.removeprefix(_SQLITE)
    if place == url or place in ("", ":memory:"):
        return url
    path, mark, options = place.partition("?")
    return _file_url(Path(unquote(path)).resolve()) + mark + options


def _file_url(path: Path) -> str:
    return _SQLITE + quote(str(path))


class AuditLogSettings(BaseSettings):
    """Where the audit log lies, and what happens while it is down."""

    model_config = SettingsConfigDict(env_prefix="CONSILIUM_", frozen=True, extra="ignore", protected_namespaces=())

    audit_log_url: SecretStr = Field(default_factory=embedded_url)
    """``sqlite:///FILE`` or ``postgresql://USER:PASSWORD@HOST:PORT/DATABASE``."""
    audit_log_keys: Path = Field(default_factory=embedded_keys)
    """File of the keys of its pseudonyms, see `consilium audit-log new-key`; read when the service starts."""
    audit_log_required: bool = True
    """Answer nothing that cannot be recorded (503). Else such an answer is given without a result id."""
    audit_log_timeout_s: Seconds = 5.0
    """How long the audit log may take to connect, to let go of a lock, or to run a statement."""
    idempotency_s: Seconds = 86_400.0
    """How long the answer to an idempotency key is kept for replay, encrypted."""
