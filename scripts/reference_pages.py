"""Write the reference pages that are made of the code: ``python scripts/reference_pages.py FOLDER``.

Settings from their class, recipes from their schema, commands from the command line's own description, the HTTP API
from the OpenAPI document, and what is registered by name from the registries. `make docs` writes them anew each time.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from enum import Enum
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from consilium.cli import app as command_line
from consilium.configuration.recipe import Recipe
from consilium.modalities.modality import Modality
from consilium.modalities.registry import modalities
from consilium.network.fusion import FUSIONS
from consilium.system.environment import Variable
from consilium.system.installed import load
from hospital.configuration.gateway_settings import GatewaySettings
from hospital.configuration.network_settings import Address, Secret
from hospital.configuration.strict_section import Size
from service.app import openapi
from service.app.routes import create_app
from service.settings import PREFIX, Settings
from training.cohorts import cohort_kinds
from training.recipes import packaged_recipes

Schema = Mapping[str, Any]
_BOUNDS = {
    "minimum": "≥",
    "exclusiveMinimum": ">",
    "maximum": "≤",
    "exclusiveMaximum": "<",
    "multipleOf": "multiple of",
}
_KINDS = {str: "text", int: "whole number", float: "number", Path: "path"}
_GATEWAY_VALUES: Mapping[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "`true`, `false`",
    Path: "path, from the file's folder",
    timedelta: "time, such as `60s`, `30m`, `12h`, `30d`",
    Address: "`HOST:PORT`",
    Secret: "`{env: NAME}` or `{file: PATH}`",
}
_IS_SIZE = get_args(Size)[1]
_ENTRY = "NAME"
"""In the path of a section that stands under names which the file gives."""
_METHODS = ("get", "post", "put", "patch", "delete")


# --- what any page needs ---------------------------------------------------------------------------------------------


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A Markdown table."""
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"
    yield from (f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows)
    yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def code(text: object) -> str:
    """`text` as Markdown's inline code."""
    return f"`{text}`"


def attribute_docstrings(kind: type) -> dict[str, str]:
    """The docstrings of the attributes of `kind` and of the classes that it derives from, as Markdown."""
    found: dict[str, str] = {}
    for base in reversed(
        [one for one in kind.__mro__ if one.__module__.startswith(("consilium", "service", "training", "hospital"))]
    ):
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        body = getattr(tree, "body", [])
        for attribute, following in pairwise(body):
            target = getattr(attribute, "target", None) or next(iter(getattr(attribute, "targets", ())), None)
            text = getattr(getattr(following, "value", None), "value", None)
            if isinstance(target, ast.Name) and isinstance(following, ast.Expr) and isinstance(text, str):
                found[target.id] = text.replace("``", "`")
    return found


def type_words(schema: Schema, definitions: Schema) -> str:
    """One JSON schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        found = definitions.get(name, {})
        return type_words(found, definitions) if "enum" in found else f"[{name}](#{name.lower()})"
    if "const" in schema:
        return code(json.dumps(schema["const"]))
    if "enum" in schema:
        return ", ".join(code(one) for one in schema["enum"])
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(type_words(one, definitions) for one in schema[key]))
    return _plain_type(schema, definitions)


def _plain_type(schema: Schema, definitions: Schema) -> str:
    kind = schema.get("type", "any")
    bounds = "".join(f", {sign} {schema[key]:g}" for key, sign in _BOUNDS.items() if key in schema)
    if kind == "array":
        inner = schema.get("items") or {"anyOf": schema.get("prefixItems", [{}])}
        return f"list of {type_words(inner, definitions)}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"mapping to {type_words(schema['additionalProperties'], definitions)}"
    return {"null": "none"}.get(kind, kind) + bounds


def default_of(field: Any) -> str:
    """The default of a pydantic field, as somebody would write it."""
    if field.default_factory is not None:
        return "made"
    if field.default is PydanticUndefined:
        return "**required**"
    return "empty" if field.default in ("", ()) else code(_written(field.default))


def _written(value: Any) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple | list):
        return json.dumps([_written(one) for one in value]).replace('"', "")
    return "none" if value is None else json.dumps(value, default=str).strip('"')


# --- the pages -------------------------------------------------------------------------------------------------------


def settings_page() -> Iterator[str]:
    """Every environment variable."""
    schema = Settings.model_json_schema()
    texts = attribute_docstrings(Settings)
    yield from ("# Settings", "")
    yield "Environment variables of the service. A variable that begins with `CONSILIUM_` and is none of these is named"
    yield from ("in the log, with the nearest one that exists.", "")
    rows = []
    for name, field in Settings.model_fields.items():
        kind = type_words(schema["properties"][name], schema.get("$defs", {}))
        rows.append([code(PREFIX + name.upper()), kind, default_of(field), texts.get(name) or field.description or ""])
    yield from table(["variable", "values", "default", "what it sets"], rows)
    yield from ("## Read by the command as well", "")
    texts = attribute_docstrings(Variable)
    yield from table(["variable", "what it sets"], [[code(one.value), texts.get(one.name, "")] for one in Variable])


def gateway_page() -> Iterator[str]:
    """Every key of gateway.yaml."""
    yield from ("# gateway.yaml", "")
    yield "The settings of `consilium gateway`. `NAME` stands for a name that the file gives. A key that is unknown is"
    yield from ("an error that names the nearest one; `consilium gateway check` says all that is wrong.", "")
    known = {kind: place for place, kind in gateway_sections()}
    for kind, place in known.items():
        yield from (f"## {place}", "", _sentences(kind.__doc__).replace("``", "`"), "")
        texts = attribute_docstrings(kind)
        rows = []
        for name, field in kind.model_fields.items():
            words = words_of(field.annotation, tuple(field.metadata), known)
            rows.append([code(name), words, gateway_default(field), texts.get(name, "")])
        yield from table(["key", "values", "default", "what it sets"], rows)


def gateway_sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """Every section of the file by its place in it, ``peers.NAME``; one class stands where it is first met."""
    yield "gateway.yaml", GatewaySettings
    yield from _within(GatewaySettings, "", set())


def _within(kind: type[BaseModel], prefix: str, seen: set[type[BaseModel]]) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in kind.model_fields.items():
        for section, place in _sections_of(field.annotation, prefix + name):
            if section not in seen and section is not Secret:
                seen.add(section)
                yield place, section
                yield from _within(section, f"{place}.", seen)


def _sections_of(annotation: Any, place: str) -> Iterator[tuple[type[BaseModel], str]]:
    """The sections that a value may be, each with its place."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        kinds = get_args(annotation.model_fields["kind"].annotation) if "kind" in annotation.model_fields else ()
        yield annotation, place + "".join(f" (kind: {one})" for one in kinds)
        return
    below = f"{place}.{_ENTRY}" if get_origin(annotation) is dict else place
    for inner in get_args(annotation):
        yield from _sections_of(inner, below)


def places() -> dict[type[BaseModel], str]:
    return {kind: place for place, kind in gateway_sections()}


def words_of(annotation: Any, metadata: tuple[Any, ...], known: Mapping[type[BaseModel], str]) -> str:
    """What a key takes, in a few words; a section by a link."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if _IS_SIZE in metadata:
        return "size, such as `512MB`, `5GB`"
    if origin is Literal:
        return ", ".join(map(code, arguments))
    if origin is not None:
        return _composed(origin, arguments, known)
    if annotation in known:
        return f"[{known[annotation]}](#{anchor(known[annotation])})"
    return _GATEWAY_VALUES.get(annotation, "address or network")


def _composed(origin: Any, arguments: tuple[Any, ...], known: Mapping[type[BaseModel], str]) -> str:
    if origin is Annotated:
        return words_of(arguments[0], arguments[1:], known)
    if origin is dict:
        return f"mapping of names to {words_of(arguments[1], (), known)}"
    words = [words_of(one, (), known) for one in arguments if one not in (NoneType, ...)]
    joined = " or ".join(dict.fromkeys(words))
    return joined if origin in (Union, UnionType) else f"list of {joined}"


def anchor(title: str) -> str:
    """What a heading is linked by."""
    return "".join(one for one in title.lower().replace(" ", "-") if one.isalnum() or one in "-_")


def gateway_default(field: FieldInfo) -> str:
    """A default as the file would write it."""
    value = field.default
    if field.is_required():
        return "**required**"
    if value in (None, PydanticUndefined, "", (), frozenset()) or isinstance(value, BaseModel):
        return ""
    if isinstance(value, tuple | frozenset):
        return code(f"[{', '.join(sorted(value) if isinstance(value, frozenset) else value)}]")
    return code(str(value).lower() if isinstance(value, bool) else value)


def recipes_page() -> Iterator[str]:
    """Every key of a recipe."""
    yield from ("# Recipes", "")
    yield "A recipe is a YAML file: a packaged one, by its name, or your own. Every key can be changed for one training"
    yield "with `--set section.key=value`. An unknown key is an error that names the nearest one."
    yield from ("", f"Packaged: {', '.join(code(name) for name in packaged_recipes())}.", "")
    schema = Recipe.model_json_schema()
    yield from _section("recipe", Recipe, schema, "")
    for name, modality in modalities().items():
        section = load(modality.section)
        yield from _section(f"modalities.{name}", section, section.model_json_schema(), f"modalities.{name}.")
    definitions = schema["$defs"]
    shown = set(_section_classes(Recipe))
    for name in (one for one in definitions if one not in shown):
        yield from _schema(name, definitions[name], definitions)


def _section(title: str, kind: type[BaseModel], schema: Schema, prefix: str) -> Iterator[str]:
    inner = {name: field.annotation for name, field in kind.model_fields.items() if _is_section(field.annotation)}
    yield from (f"## {title}", "")
    if kind.__doc__ and prefix:
        yield from (" ".join(kind.__doc__.replace("``", "`").split()), "")
    properties = schema["properties"]
    texts = attribute_docstrings(kind)
    rows = []
    for name, field in kind.model_fields.items():
        words = f"a section: [{prefix}{name}](#{(prefix + name).replace('.', '')})"
        words = words if name in inner else type_words(properties.get(name, {}), schema.get("$defs", {}))
        rows.append([code(name), words, "" if name in inner else default_of(field), texts.get(name, "")])
    yield from table(["key", "values", "default", "what it sets"], rows)
    for name, section in inner.items():
        yield from _section(prefix + name, section, section.model_json_schema(), f"{prefix}{name}.")


def _section_classes(kind: type[BaseModel]) -> Iterator[str]:
    """Names of the classes of all sections within `kind`."""
    for field in kind.model_fields.values():
        if _is_section(field.annotation):
            yield field.annotation.__name__
            yield from _section_classes(field.annotation)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def commands_page() -> Iterator[str]:
    """Every command with its options."""
    yield from ("# Commands", "")
    yield "Exit code 0: done. 2: the input is wrong, and a line on standard error says where. 1: anything else."
    yield ""
    yield from _command("consilium", typer.main.get_command(command_line))


def _command(name: str, command: Any) -> Iterator[str]:
    children = getattr(command, "commands", {})
    if not children:
        yield from (f"## {name}", "", _sentences(command.help), "")
        yield from table(["argument or option", "values", "what it does"], [_parameter(one) for one in command.params])
        if command.epilog:
            example = _sentences(command.epilog).removeprefix("Example:").strip()
            yield from ("```bash", example, "```", "")
    for child, inner in children.items():
        yield from _command(f"{name} {child}", inner)


def _sentences(text: str | None) -> str:
    return " ".join((text or "").split())


def _parameter(parameter: Any) -> list[str]:
    argument = parameter.param_type_name == "argument"
    names = [parameter.name.upper()] if argument else [*parameter.opts, *parameter.secondary_opts]
    values = _values(parameter.type_descriptor.annotation, parameter.metavar)
    default = parameter.default
    shown = "" if default in (None, False, (), "") or callable(default) else f"; default {_written(default)}"
    needed = ", required" if parameter.required else ""
    return [", ".join(map(code, names)), f"{values}{shown}{needed}", _sentences(getattr(parameter, "help", ""))]


def _values(annotation: Any, metavar: str | None) -> str:
    kind, *_ = [one for one in get_args(annotation) if one is not type(None)] or [annotation]
    words = "flag" if kind is bool else metavar or _KINDS.get(kind, getattr(kind, "__name__", str(kind)))
    return f"{words}, repeatable" if get_origin(annotation) is list else words


def http_page(document: Schema) -> Iterator[str]:
    """Every route, and every schema that it takes or gives."""
    schemas = document["components"]["schemas"]
    yield from ("# HTTP API", "", "Made of the service's OpenAPI document, which it serves at `/docs.json`.", "")
    for path, operations in document["paths"].items():
        for method in (one for one in _METHODS if one in operations):
            yield from _operation(f"{method.upper()} {path}", operations[method], schemas)
    for name, schema in sorted(schemas.items()):
        yield from _schema(name, schema, schemas)


def _operation(title: str, operation: Schema, schemas: Schema) -> Iterator[str]:
    yield from (f"## {title}", "", f"{operation['summary']}.", "")
    for parameter in operation.get("parameters", ()):
        yield f"- {parameter['in']} `{parameter['name']}`: {_cell(parameter.get('description', ''))}"
    for media, body in operation.get("requestBody", {}).get("content", {}).items():
        schema = body["schema"]
        fields = schema.get("properties", {"body": schema})
        yield from (f"- body {media}, {code(name)}: {type_words(one, schemas)}" for name, one in fields.items())
    yield ""
    rows = [[code(status), _answer(answer, schemas)] for status, answer in sorted(operation["responses"].items())]
    yield from table(["status", "answer"], rows)


def _answer(answer: Schema, schemas: Schema) -> str:
    kinds = {type_words(body["schema"], schemas) for body in answer.get("content", {}).values() if "schema" in body}
    return "; ".join([answer.get("description", ""), *sorted(kinds - {"string"})])


def _schema(name: str, schema: Schema, schemas: Schema) -> Iterator[str]:
    if "properties" not in schema:
        return
    yield from (f"## {name}", "", _cell(schema.get("description", "")), "")
    needed = schema.get("required", ())
    rows = [
        [code(key), type_words(one, schemas), "yes" if key in needed else "", one.get("description", "")]
        for key, one in schema["properties"].items()
    ]
    yield from table(["field", "values", "required", "what it is"], rows)


def registers_page() -> Iterator[str]:
    """What is chosen by name."""
    yield from ("# What is registered by name", "")
    yield from (
        "## Modalities",
        "",
        "`consilium.modalities.registry`; entry points of the group `consilium.modalities`.",
        "",
    )
    yield from table(
        ["name", "shown as", "declared in"],
        [[code(one.name), one.display, code(f"consilium/modalities/{one.name}/")] for one in modalities().values()],
    )
    yield from ("### Keys of a declaration", "")
    yield from table(["key", "type", "what it is"], attributes_of(Modality))
    yield from ("## Fusions", "", "`consilium.network.fusion.FUSIONS`.", "")
    lines = [[code(name), _first_line(kind), code(kind.__module__)] for name, kind in FUSIONS.items()]
    yield from table(["name", "what it does", "module"], lines)
    yield from ("## Cohort kinds", "", "`training.cohorts`; entry points of the group `consilium.cohorts`.", "")
    lines = [[code(one.name), code(one.read.partition(":")[0])] for one in cohort_kinds().values()]
    yield from table(["name", "read by"], lines)


def attributes_of(kind: Any) -> list[list[str]]:
    """Name, type and text of each attribute that the numpydoc docstring of `kind` lists."""
    text = re.split(r"\n\w+\n-+\n", inspect.getdoc(kind) or "")[1]
    found = re.findall(r"^(\w+) : (.+)\n((?: {4}.*\n?|\n(?= ))+)", text, re.MULTILINE)
    return [[code(name), words, lines.replace("``", "`")] for name, words, lines in found]


def _first_line(kind: Any) -> str:
    return re.split(r"\n\s*\n", inspect.getdoc(kind) or "")[0].replace("``", "`")


def write(folder: Path) -> None:
    """Write every page, and the OpenAPI document beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    document = json.loads(openapi.document(create_app()))
    pages = {
        "settings": settings_page(),
        "gateway": gateway_page(),
        "recipes": recipes_page(),
        "commands": commands_page(),
        "http-api": http_page(document),
        "registers": registers_page(),
    }
    for name, lines in pages.items():
        (folder / f"{name}.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    (folder / "openapi.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
