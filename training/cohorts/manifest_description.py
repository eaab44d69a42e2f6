"""``cohort.yaml`` of a manifest: the cohort's name, findings, time zone and own variables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from consilium.domain.encoded_text import decode_text
from consilium.domain.errors import InputError, Problem
from consilium.domain.findings import FindingSet
from consilium.domain.variables import BUILT_IN, VariableTable
from consilium.formats.time_zone import TimeZone
from training.cohorts.cohort import Prompts
from training.cohorts.manifest_schema import nearest
from training.cohorts.manifest_variables import VariableEntry, own_table, repeated_keys, variable_lines
from training.cohorts.tables import unreadable

DESCRIPTION = "cohort.yaml"
_QUOTED = ": YAML takes no, yes and numbers for something else than text unless they are quoted"


class FindingEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    display: str | None = None
    code: str | None = None


class PromptEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    present: list[str] = Field(min_length=1)
    absent: list[str] = Field(min_length=1)


class TargetEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    display: str | None = None
    grades: list[str] | None = None
    horizons: list[float] | None = None
    unit: str | None = None


class Description(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str | None = None
    exclusive: bool = False
    findings: list[FindingEntry] | None = None
    time_zone: str | None = None
    variables: list[VariableEntry] = []
    prompts: dict[str, PromptEntry] = {}
    targets: list[TargetEntry] = []


def read_description(root: Path) -> tuple[Description, VariableTable, list[Problem]]:
    """``cohort.yaml``, the variables that the cohort may hold, and what is wrong with either."""
    path = root / DESCRIPTION
    if not path.exists():
        return Description(), BUILT_IN, []
    try:
        text = decode_text(path.read_bytes(), "file")
        data = yaml.safe_load(text)
    except OSError as error:
        return Description(), BUILT_IN, [Problem(DESCRIPTION, None, "file", DESCRIPTION, unreadable(error))]
    except InputError as error:
        return Description(), BUILT_IN, [Problem(DESCRIPTION, None, error.field, error.value, error.rule)]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return Description(), BUILT_IN, [Problem(DESCRIPTION, None, "file", type(error).__name__, "must be YAML")]
    rule = "must stand once: YAML keeps the last alone"
    found = [Problem(DESCRIPTION, line, key, key, rule) for key, line in repeated_keys(text)]
    lines = variable_lines(text)
    description = Description()
    try:
        description = Description.model_validate({} if data is None else data)
    except ValidationError as error:
        found += [_description_problem(detail, lines) for detail in error.errors(include_url=False)]
    if found:
        return Description(), BUILT_IN, found
    return description, *own_table(description.variables, DESCRIPTION, lines)


def _description_problem(detail: Any, lines: Sequence[int]) -> Problem:
    """What is wrong with a key, at the line where its variable begins."""
    where = detail["loc"]
    place = ".".join(str(part) for part in where) or "file"
    number = where[1] if len(where) > 1 and where[0] == "variables" else None
    line = lines[number] if isinstance(number, int) and number < len(lines) else None
    if detail["type"] != "extra_forbidden":
        rule = detail["msg"].lower() + (_QUOTED if detail["type"] == "string_type" else "")
        return Problem(DESCRIPTION, line, place, detail["input"], rule)
    entries: dict[str, type[BaseModel]] = {
        "variables": VariableEntry,
        "findings": FindingEntry,
        "prompts": PromptEntry,
        "targets": TargetEntry,
    }
    known = list((entries.get(where[0], Description) if len(where) > 1 else Description).model_fields)
    rule = f"is no known key; the nearest is {nearest(str(where[-1]), known)!r}"
    return Problem(DESCRIPTION, line, place, detail["input"], rule)


def described_zone(description: Description, otherwise: TimeZone) -> tuple[TimeZone, list[Problem]]:
    """The zone in which the cohort's times are meant that state no offset."""
    if description.time_zone is None:
        return otherwise, []
    try:
        return TimeZone(description.time_zone), []
    except InputError as error:
        return otherwise, [Problem(DESCRIPTION, None, error.field, error.value, error.rule)]


def described_prompts(description: Description, findings: FindingSet) -> tuple[dict[str, Prompts], list[Problem]]:
    """The prompts of each finding that has some, and those of no finding."""
    problems = [
        Problem(DESCRIPTION, None, f"prompts.{name}", name, f"must be one of the findings: {', '.join(findings.names)}")
        for name in description.prompts
        if name not in findings.names
    ]
    prompts = {name: Prompts(tuple(one.present), tuple(one.absent)) for name, one in description.prompts.items()}
    empty = [
        Problem(DESCRIPTION, None, f"prompts.{name}", text, "must be a sentence")
        for name, prompt in prompts.items()
        for text in (*prompt.present, *prompt.absent)
        if not text.strip()
    ]
    return prompts, problems + empty


def read_prompts(path: Path) -> dict[str, Prompts]:
    """The prompts in the YAML file `path`, a mapping of finding to sentences as `Description.prompts`.

    Raises
    ------
    InputError
        The file cannot be read, or holds something else.
    """
    rule = "must be a YAML file of {FINDING: {present: [...], absent: [...]}}"
    try:
        data = yaml.safe_load(decode_text(path.read_bytes(), "prompts"))
        description = Description.model_validate({"prompts": data})
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise InputError("prompts", str(path), f"{rule} ({type(error).__name__})") from None
    return {name: Prompts(tuple(one.present), tuple(one.absent)) for name, one in description.prompts.items()}
