"""Settings of the service: environment variables that begin with ``CONSILIUM_``.

``CONSILIUM_MODEL`` must be given, and somebody who may ask: an API key in the file ``CONSILIUM_KEYS``,
``CONSILIUM_OIDC_ISSUER``, or ``CONSILIUM_INSECURE``, with which `service.app.binding` allows the loopback interface
only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    HttpUrl,
    SecretStr,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
)
from pydantic_settings import NoDecode

from consilium.domain.errors import InputError
from consilium.formats.limits import Limits
from consilium.formats.sent_records import nearest_key
from consilium.formats.time_zone import site_zone
from consilium.inference.self_test import Tolerance
from consilium.modalities.registry import declared_limits
from consilium.system.environment import Variable
from service.audit_settings import AuditLogSettings
from service.page_settings import safe_address
from service.paths import keys_path
from service.scopes import Scope
from service.study_settings import StudySettings

PREFIX = "CONSILIUM_"
MEBIBYTE = 1 << 20
_TOLERANCE = Tolerance()

Kind = TypeVar("Kind", bound=AuditLogSettings)
Count = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]


def _is_alias(source: str) -> str:
    if not re.fullmatch(r"models:/[^/@]+@[^/@]+", source):
        raise ValueError("must be models:/NAME@ALIAS")
    return source


def _is_address(url: str) -> str:
    TypeAdapter(HttpUrl).validate_python(url)
    return url


Address = Annotated[str, AfterValidator(_is_address)]
Alias = Annotated[str, AfterValidator(_is_alias)]


def _from_json(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError("must be JSON") from None


Granted = Annotated[dict[str, frozenset[Scope]], NoDecode, BeforeValidator(_from_json)]


def _limit_fields() -> dict[str, Any]:
    return {
        f"max_{limit.name}": (Count, Field(default=limit.served, description=limit.description))
        for limit in declared_limits()
    }


if TYPE_CHECKING:

    class InputLimits(StudySettings):
        """What one request may hold of each modality's records, as the modalities declare it."""

else:
    InputLimits = create_model("InputLimits", __base__=StudySettings, **_limit_fields())


class Settings(InputLimits):
    """What one service process may use, and what one request may ask of it."""

    model: str = Field(min_length=1)
    """A model folder, or ``models:/consilium-<name>@champion``."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:1``."""
    model_threads: Count | None = None
    """Threads of the model's CPU arithmetic; None: half of the cores, see `consilium.system.threads`."""
    backend: Literal["auto", "eager", "bf16", "openvino", "openvino-bf16"] = "auto"
    """What runs the network, see `consilium.inference.self_test.Backend`. ``auto``: eager on the CPU, bf16 on a GPU.
    OpenVINO comes with the extra ``cpu-fast``."""
    reference_bound: float = Field(default=_TOLERANCE.reference, gt=0, lt=1)
    """How far the plain model's answers to its reference studies may be from those when it was trained. Differences of
    probabilities, as the next two."""
    backend_bound: float = Field(default=_TOLERANCE.backend, gt=0, lt=1)
    """How far the backend's answers may be from the plain model's."""
    backend_margin: float = Field(default=_TOLERANCE.margin, ge=0, lt=1)
    """Likewise, where a call or a prediction set comes out otherwise."""
    poll_s: Seconds = 30.0
    """How often the registry is asked whether the model's alias has moved, on average."""
    canary: Alias | None = None
    """``models:/consilium-<name>@challenger``: a model that answers a share of the patients' studies."""
    canary_share: float = Field(default=0.1, ge=0, le=1)
    """Of the patients, which share the canary answers; a patient's studies all go one way. `consilium rollout` gives
    another by a tag of the version."""
    shadow: Alias | None = None
    """``models:/consilium-<name>@shadow``: a model that answers the same studies, and whose answers nobody gets."""
    shadow_queue: Count = 16
    """Studies that may wait for the shadow. Over it they are dropped."""
    monitoring: bool = True
    """Keep beside each entry of the audit log what monitoring compares: out-of-distribution p-values, a few random
    projections of the features, units, sex, age band, keyed codes of device and site."""
    log_format: Literal["json", "console"] = "json"
    """JSON lines, or lines for people."""
    otlp_endpoint: Address | None = None
    """Where the spans of requests go: ``http://collector:4318/v1/traces``. None: there are none."""
    traced_share: float = Field(default=1.0, ge=0, le=1)
    """Of the requests that come without a trace of their caller's, which share is traced."""

    batch_size: Count = 8
    """Most studies in one batch."""
    batch_wait_ms: float = Field(default=5.0, ge=0)
    """How long a batch waits for studies that are admitted but still being decoded. A lone request never waits."""
    diagnosis_queue: Count = 64
    """Diagnosis requests admitted at once; each may hold a body in memory. Over it: 503."""
    search_index: Path | None = None
    """Folder that ``consilium index`` wrote: what `POST /v1/search` searches. None: that route answers 404."""
    draft_phrases: Path | None = None
    """YAML file of a site's own phrases for `POST /v1/draft`, in place of the built-in ones of its language."""
    search_queue: Count = 8
    """Searches admitted at once. Over it: 503."""
    explanation_queue: Count = 8
    """Explanation requests admitted at once. Over it: 503."""
    worklist_queue: Count = 2
    """Worklists (`POST /v1/diagnose/batch`) and jobs being received at once, beside the above; each holds a body.
    Over it: 503."""
    worklist_places: Count = 16
    """Of `diagnosis_queue`, how many places one worklist may hold at once; the others are for single studies."""
    jobs_per_caller: Count = 8
    """Jobs (`POST /v1/jobs`) of one caller that have not ended. Over it: 429."""
    job_storage_bytes: Count = 1024 * MEBIBYTE
    """What the studies and answers of all jobs may take in the audit log's database; SQLite's file stays as large as it
    once was. Over it: 503."""
    job_places: Count = 2
    """How many studies of a job one process answers at once, beside those of callers who wait; one, to explain it."""
    job_ttl_s: Seconds = 86_400.0
    """How long a job waits to be answered, and how long its answers wait to be fetched; then it is deleted."""
    job_lease_s: Seconds = 30.0
    """After how long without a sign of life a process's job is taken over by another, or by the same one restarted."""
    retry_after_s: Count = 1
    """What a 503 asks the caller to wait."""
    header_timeout_s: Seconds = 10.0
    """How long the headers of a request may take to arrive. Over it the connection is closed."""
    receive_timeout_s: Seconds = 30.0
    """How long a body may take to arrive, beside what it may take by `receive_bytes_per_s`. Over it: 408."""
    receive_bytes_per_s: Seconds = 131_072.0
    """Least rate of a large body: for each so many bytes that have come, it may take a second longer."""
    answer_timeout_s: Seconds = 30.0
    """How long decoding and diagnosis, or a search, may take. Over it: 504."""
    send_timeout_s: Seconds = 30.0
    """How long a worklist's caller may take to read one line. Over it the connection is closed."""
    explanation_timeout_s: Seconds = 120.0
    """How long decoding and explanation may take. Over it: 504."""

    decode_workers: Count = 1
    """Processes that decode images."""
    decode_timeout_s: Seconds = 20.0
    """How long one image may take to decode before its worker is killed."""
    decode_memory_bytes: Count = 4096 * MEBIBYTE
    """Address space of one decoding process, 0.3 GB of which are taken before the first image. Over it: 422."""

    max_connections: Count = 512
    """Open at once, of all callers; those of a proxy's pool, too. Over it: 503, but for `/livez` and `/readyz`."""
    max_body_bytes: Count = 128 * MEBIBYTE
    max_request_bytes: Count = MEBIBYTE
    """Bytes of the form field ``request``."""
    max_worklist_studies: Count = 32
    """Studies of one worklist; the limits of a study hold for each, that of a body for all together."""
    max_job_studies: Count = 256
    """Studies of one job; the limits of bodies and studies hold as for a worklist."""
    max_requests_bytes: Count = 4 * MEBIBYTE
    """Bytes of the form field ``requests``, which a worklist has instead."""
    requests_per_minute: Count = 3000
    """Of one caller, in one process. Over it: 429."""

    keys: Path = Field(default_factory=keys_path)
    """File of API keys, see `consilium keys`; read again when it changes."""
    insecure: bool = False
    """Answer everybody, whatever keys there are; on the loopback interface only."""
    oidc_issuer: str | None = None
    """OpenID Connect issuer whose bearer tokens are taken."""
    oidc_audience: str | None = Field(default=None, validate_default=True)
    """What its tokens must name as their audience."""
    oidc_jwks_url: str | None = None
    """Where its keys are; found by its discovery document unless given."""
    oidc_scope_claim: str = "scope"
    """Claim of its scopes or roles, or a path to it: ``realm_access.roles``."""
    oidc_scopes: Granted = Field(default_factory=dict)
    """What each of its scopes or roles allows, as JSON: ``{"radiology": ["read", "diagnose"]}``."""
    oidc_groups_claim: str | None = None
    """Claim of the reading groups of who asks, or a path to it. None: nobody has any by the issuer."""
    oidc_client_id: str | None = Field(default=None, validate_default=True)
    """This service's name at the issuer: with it people sign in to the reading page there. ``/read/oidc/callback``
    below `page_url` must be among its redirect URIs."""
    oidc_client_secret: SecretStr | None = None
    """Its secret, where the issuer knows it as a confidential client."""
    oidc_sign_in_scope: str = "openid profile"
    """What a sign-in asks the issuer for, with spaces between; it must hold ``openid``."""
    oidc_rights: Literal["access_token", "id_token"] = "access_token"
    """Which token of a sign-in holds scopes and groups: the access token, for `oidc_audience`, or the ID token."""
    oidc_refresh_s: Seconds = 300.0
    """Age from which its keys are read again."""
    oidc_retry_s: Seconds = 10.0
    """Least time between two attempts to read its keys, an unknown key's included."""
    oidc_most_age_s: Seconds = 86_400.0
    """How old its keys may become while it cannot be reached. Over it: 503."""

    @property
    def limits(self) -> Limits:
        """What one request may hold of each modality's records."""
        return Limits({limit.name: getattr(self, f"max_{limit.name}") for limit in declared_limits()})

    @field_validator("oidc_issuer", "oidc_jwks_url")
    @classmethod
    def _is_safe(cls, url: str | None) -> str | None:
        return None if url is None else safe_address(url)

    @field_validator("oidc_client_id")
    @classmethod
    def _has_a_callback(cls, client: str | None, others: ValidationInfo) -> str | None:
        if client and not (others.data.get("oidc_issuer") and others.data.get("page_url")):
            raise ValueError("must be given with CONSILIUM_OIDC_ISSUER and CONSILIUM_PAGE_URL")
        return client or None

    @field_validator("oidc_audience")
    @classmethod
    def _comes_with_issuer(cls, audience: str | None, others: ValidationInfo) -> str | None:
        if not audience and others.data.get("oidc_issuer"):
            raise ValueError("must be given with CONSILIUM_OIDC_ISSUER")
        return audience


def unknown_names(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that look like settings and are none, each with the known name that is nearest."""
    settings = {PREFIX + name.upper() for name in Settings.model_fields}
    others: set[str] = set(Variable)
    known = sorted(settings | others)
    # Case makes no difference to a setting, as pydantic reads them.
    unknown = (name for name in sorted(environment) if name.upper() not in settings and name not in others)
    return {name: nearest_key(name.upper(), known) for name in unknown if name.upper().startswith(PREFIX)}


def load_settings(model: str | None = None) -> Settings:
    """Read the environment; `model` stands for ``CONSILIUM_MODEL`` where it is given.

    Raises
    ------
    InputError
        Names the variable, its value and the rule; ``CONSILIUM_TIME_ZONE`` among them, which ingest reads.
    """
    site_zone()
    return _load(Settings if model is None else partial(Settings, model=model))


def load_audit_log_settings() -> AuditLogSettings:
    """Read of the environment what the audit log needs; see `load_settings`."""
    return _load(AuditLogSettings)


def _load(kind: Callable[[], Kind]) -> Kind:
    try:
        return kind()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        variable = PREFIX + str(first["loc"][0]).upper()
        if first["type"] == "missing":
            raise InputError(variable, None, "must name a model folder or a models:/ URI") from None
        rule = first["msg"].removeprefix("Value error, ")
        raise InputError(variable, first["input"], rule[:1].lower() + rule[1:]) from None
