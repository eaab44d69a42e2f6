"""Settings of the service: environment variables that begin with ``CONSILIUM_``.

``CONSILIUM_MODEL`` is the one that must be given. There is no setting for the host: until callers are authenticated the
service answers on the loopback interface only, and `service.binding` refuses to start it on another one.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from consilium.errors import InputError

PREFIX = "CONSILIUM_"
MEBIBYTE = 1 << 20

Count = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]


class Settings(BaseSettings):
    """What one service process may use, and what one request may ask of it."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", protected_namespaces=())

    model: str = Field(min_length=1)
    """A model folder, or ``models:/consilium-<name>@champion``."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:1``."""
    model_threads: Count | None = None
    """Threads of the model's CPU arithmetic; None: half of the cores, see `consilium.threads`."""
    poll_s: Seconds = 30.0
    """How often the registry is asked whether the model's alias has moved, on average."""

    batch_size: Count = 8
    """Most studies in one batch."""
    batch_wait_ms: float = Field(default=5.0, ge=0)
    """How long a batch waits for studies that are admitted but still being decoded. A lone request never waits."""
    diagnosis_queue: Count = 64
    """Diagnosis requests admitted at once; each may hold a body in memory. Over it: 503."""
    explanation_queue: Count = 8
    """Explanation requests admitted at once. Over it: 503."""
    retry_after_s: Count = 1
    """What a 503 asks the caller to wait."""
    receive_timeout_s: Seconds = 30.0
    """How long a body may take to arrive. Over it: 408."""
    answer_timeout_s: Seconds = 30.0
    """How long decoding and diagnosis may take. Over it: 504."""
    explanation_timeout_s: Seconds = 120.0
    """How long decoding and explanation may take. Over it: 504."""

    decode_workers: Count = 1
    """Processes that decode images."""
    decode_timeout_s: Seconds = 20.0
    """How long one image may take to decode before its worker is killed."""

    max_body_bytes: Count = 128 * MEBIBYTE
    max_images: Count = 8
    max_image_bytes: Count = 64 * MEBIBYTE
    max_request_bytes: Count = MEBIBYTE
    """Bytes of the form field ``request``."""
    max_notes: Count = 32
    max_note_characters: Count = 20_000
    max_observations: Count = 500


def load_settings() -> Settings:
    """Read the environment.

    Raises
    ------
    InputError
        Names the variable, its value and the rule.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        variable = PREFIX + "_".join(str(part) for part in first["loc"]).upper()
        if first["type"] == "missing":
            raise InputError(variable, None, "must name a model folder or a models:/ URI") from None
        raise InputError(variable, first["input"], first["msg"][:1].lower() + first["msg"][1:]) from None
