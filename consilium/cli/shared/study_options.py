"""The options of a command that gives one study: one for each input that a modality declares."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from consilium.modalities.modality import FileInput, JsonInput
from consilium.modalities.registry import file_inputs, json_inputs
from consilium.system.installed import load

SENT = "sent"


def takes_study(command: Callable[..., None]) -> Callable[..., None]:
    """`command`, whose keyword ``sent`` is made of an option for each input: paths of files, and raw records."""
    inputs: dict[str, FileInput | JsonInput] = {**file_inputs(), **json_inputs()}
    options = {name: given for name, given in inputs.items() if given.option is not None}

    @wraps(command)
    def with_options(**given: Any) -> None:
        values = {name: given.pop(name) for name in options}
        command(**given, **{SENT: {name: _read(options[name], value) for name, value in values.items() if value}})

    hints = get_type_hints(command, include_extras=True)
    own = [
        one.replace(annotation=hints[one.name])
        for one in inspect.signature(command).parameters.values()
        if one.name != SENT
    ]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(given))
        for name, given in options.items()
    ]
    # Typer reads both.
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (own[0], *added, *own[1:])]
    del with_options.__wrapped__
    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {one.name: one.annotation for one in parameters}
    return with_options


def _annotation(given: FileInput | JsonInput) -> Any:
    option = given.option
    assert option is not None
    kind: Any = Path if isinstance(given, FileInput) else str
    shown = typer.Option(option.name, metavar=option.metavar or None, help=option.help)
    return Annotated[list[kind] | None if option.repeatable else kind | None, shown]


def _read(given: FileInput | JsonInput, value: Any) -> Any:
    option = given.option
    assert option is not None
    values = value if option.repeatable else [value]
    return values if isinstance(given, FileInput) else load(option.read)(values, option.name)


def split_files(sent: Mapping[str, Any]) -> tuple[dict[str, list[Path]], dict[str, Any]]:
    """The paths of files, and the records beside them."""
    files = {name: sent[name] for name in file_inputs() if name in sent}
    return files, {name: value for name, value in sent.items() if name not in files}
