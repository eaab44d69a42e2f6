"""What an operator asks of a version on its way to champion: ``rollout.yaml``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from consilium.configuration.recipe_errors import nearest_key, rule_of
from consilium.domain.encoded_text import decode_text
from consilium.domain.errors import InputError

Hours = Annotated[float, Field(ge=0, le=24 * 365)]
Answers = Annotated[int, Field(ge=1)]
Role = Literal["shadow", "canary"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Stage(_Part):
    """One stage: how long, and how many of the version's answers, before it may go on."""

    role: Role
    share: float | None = Field(default=None, gt=0, le=1)
    """Of the patients, which share the canary answers."""
    hours: Hours
    answers: Answers

    @model_validator(mode="after")
    def _share_of_canary(self) -> Stage:
        if (self.role == "canary") != (self.share is not None):
            raise ValueError("must have a share where it is a canary, and only there")
        return self

    @property
    def title(self) -> str:
        return self.role if self.share is None else f"canary {self.share:.0%}"


class StopRules(_Part):
    """What ends a rollout. Of each rule only what is given is looked at."""

    agreement: float | None = Field(default=None, gt=0, le=1)
    """Least share of studies on which a shadow calls the same findings as the serving model."""
    referral: float | None = Field(default=None, gt=0, le=1)
    """How much more often than the serving model it may refer; a difference of shares."""
    errors: float | None = Field(default=None, gt=0, le=1)
    """How much more often than the serving model's a confirmed call of it may be wrong; a difference of shares."""
    latency: float | None = Field(default=None, gt=1)
    """How many times the serving model's median time a canary's may be."""


class RolloutPlan(_Part):
    """The stages in their order, and what ends them."""

    stages: tuple[Stage, ...] = Field(min_length=1)
    stop: StopRules
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    """With which probability a version no worse than the rules allow may be stopped by chance, in the whole rollout."""
    poll_s: float = Field(default=60, gt=0)
    """How often the audit log is looked at."""

    @property
    def digest(self) -> str:
        """SHA-256 of all that it says."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def load_plan(path: Path) -> RolloutPlan:
    """The plan in the file `path`.

    Raises
    ------
    InputError
        Names the key and what its value must be.
    """
    try:
        data: Any = yaml.safe_load(decode_text(path.read_bytes(), "plan"))
    except OSError as error:
        raise InputError("plan", str(path), f"must be a file that can be read ({error.strerror})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError("plan", path.name, f"must be YAML ({type(error).__name__})") from None
    if not isinstance(data, dict):
        raise InputError("plan", path.name, "must be a mapping of keys to values")
    return read_plan(data)


def read_plan(data: dict[str, Any]) -> RolloutPlan:
    """The plan that a mapping of keys to values is; `InputError` as of `load_plan`."""
    try:
        return RolloutPlan.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    *above, key = map(str, first["loc"])
    rule = rule_of(first["type"], first["msg"])
    if first["type"] == "extra_forbidden":
        parts: dict[str, type[_Part]] = {"stages": Stage, "stop": StopRules}
        part = parts.get(above[0], RolloutPlan) if above else RolloutPlan
        rule = nearest_key(key, part.model_fields)
    raise InputError(".".join(("plan", *above, key)), first["input"], rule)
