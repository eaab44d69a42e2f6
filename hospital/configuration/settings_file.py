"""gateway.yaml, read: every problem on a line of its own, by the name of its key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from consilium.configuration.recipe_errors import rule_of
from consilium.domain.encoded_text import decode_text
from consilium.domain.errors import InputError
from hospital.configuration.gateway_settings import BROKEN_REFERENCE, GatewaySettings
from hospital.configuration.strict_section import UNKNOWN_KEY

_LARGEST = 1 << 20


class _Loader(yaml.SafeLoader):
    """YAML in which a key stands once: the second of two would silently take the place of the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set[str]()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise InputError(f"line {key.start_mark.line + 1}", key.value, "must stand once in its mapping")
            seen.add(str(key.value))
        return super().construct_mapping(node, deep=deep)


class SettingsProblems(InputError):
    """A gateway.yaml that cannot be used; carries every problem that was found."""

    def __init__(self, path: Path, problems: Sequence[InputError]) -> None:
        super().__init__("FILE", str(path), "must be settings of a gateway")
        self.path = path
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(f"{self.path}: {problem}" for problem in self.problems)


def read_settings(path: Path) -> GatewaySettings:
    """The settings that a file holds. Paths in it are meant from its folder. Secrets are not read yet.

    Raises
    ------
    InputError
        It cannot be read, or is no YAML.
    SettingsProblems
        Keys or values are wrong.
    """
    data = _parsed(path)
    try:
        return GatewaySettings.model_validate(data, context={"folder": path.absolute().parent})
    except ValidationError as error:
        raise SettingsProblems(path, _problems(error)) from None


def _parsed(path: Path) -> Any:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError("FILE", str(path), f"must be a file that can be read ({error.strerror})") from None
    if len(content) > _LARGEST:
        raise InputError("FILE", str(path), f"must have at most {_LARGEST} bytes")
    try:
        data = yaml.load(decode_text(content, "FILE"), _Loader)  # noqa: S506 - derived from the safe one
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be parsed"
        where = f"line {mark.line + 1}: {reason}" if mark is not None else reason
        raise InputError("FILE", str(path), f"must be YAML ({where})") from None
    if not isinstance(data, dict):
        raise InputError("FILE", str(path), "must be a mapping of keys to values")
    return data


def _problems(error: ValidationError) -> list[InputError]:
    return [_problem(one) for one in error.errors(include_url=False)]


def _problem(found: Any) -> InputError:
    context = found.get("ctx", {})
    place = _place(found["loc"])
    if found["type"] == UNKNOWN_KEY:
        return InputError(".".join((*place, context["key"])), context["key"], context["rule"])
    if found["type"] == BROKEN_REFERENCE:
        return InputError(context["place"], context["value"], context["rule"])
    value = found["input"]
    return InputError(".".join(place) or "gateway.yaml", _shown(place, value), rule_of(found["type"], found["msg"]))


def _shown(place: Sequence[str], value: Any) -> object:
    """A value as a message may quote it: without what may be a secret, and of a section only that it is one."""
    if isinstance(value, dict | BaseModel):
        return "a section"
    if {"token", "password", "key"} & set(place) or (isinstance(value, str) and "@" in value):
        return f"a {type(value).__name__}"
    return value


def _place(location: Sequence[str | int]) -> tuple[str, ...]:
    """Where in the file; without what pydantic marks a checked key or a chosen kind by."""
    places = [str(part) for part in location if part != "[key]"]
    if places[:1] == ["destinations"] and len(places) > 2:
        del places[2]
    return tuple(places)
