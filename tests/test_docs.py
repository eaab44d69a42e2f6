"""README and documentation: links lead somewhere, commands, code and settings exist."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import re
import shlex
import tomllib
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pydantic import BaseModel

from consilium.api.schemas import DiagnosisAnswer
from consilium.cli import app as command_line
from consilium.cli import main
from consilium.configuration.recipe import Recipe
from consilium.domain.diagnosis import Diagnosis, FindingResult, GradeResult, SurvivalResult
from consilium.modalities import registry
from consilium.modalities.modality import Modality
from consilium.modalities.registry import modalities
from consilium.network.fusion import FUSIONS
from consilium.system.environment import Variable
from hospital.configuration.gateway_settings import GatewaySettings
from hospital.configuration.route_settings import Conditions
from hospital.configuration.system_settings import DicomPeerSettings
from scripts import first_steps, reference_pages
from service.app.routes import create_app
from service.settings import PREFIX, Settings
from tests.conftest import ROOT
from training import cohorts
from training.cohorts import cohort_kinds
from training.cohorts.manifest import read_manifest
from training.cohorts.phantom import renderers
from training.recipes import find_recipe

GENERATED = ROOT / "docs" / "reference" / "generated"
GENERATED_PAGES = {"settings.md", "gateway.md", "recipes.md", "commands.md", "http-api.md", "registers.md"}
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "deploy").glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PAGES = [page for page in PAGES if GENERATED not in page.parents and "_build" not in page.parts]
LONGEST_README = 200
MADE = {"deploy/secrets", "docs/_build"}
"""Folders that a command makes."""
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks_of(*languages: str) -> list[Any]:
    """Every fenced block in one of the `languages`, with its page for the test's name."""
    return [
        pytest.param(text, id=f"{name_of(page)}-{number}")
        for page in PAGES
        for number, (language, text) in enumerate(first_steps.blocks(text_of(page)))
        if language in languages
    ]


def commands_of(script: str) -> list[list[str]]:
    """The words of each command line of `script`, continued lines joined."""
    lines = script.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if re.match(r"(consilium|make|python) ", line)]


# --- links -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    targets = [target.partition("#")[0] for target in _LINK.findall(text_of(page)) if "://" not in target]
    places = [(page.parent / target).resolve() for target in targets if target]
    made = [place for place in places if place.parent == GENERATED]

    assert [place for place in places if place not in made and not place.exists()] == []
    assert {place.name for place in made} <= GENERATED_PAGES


# --- what pages name -------------------------------------------------------------------------------------------------


def test_the_readme_is_short() -> None:
    assert len(text_of(ROOT / "README.md").splitlines()) <= LONGEST_README


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_setting_exists(page: Path) -> None:
    named = set(re.findall(rf"\b{PREFIX}[A-Z_]+\b", text_of(page)))

    assert named <= {PREFIX + field.upper() for field in Settings.model_fields} | set(Variable)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_metric_exists(page: Path) -> None:
    modules = [ROOT / "service" / "observability" / "metrics.py", *(ROOT / "hospital" / "running").glob("*.py")]
    source = "".join(map(text_of, modules))
    named = {name.removesuffix("_total") for name in re.findall(r"\bconsilium_[a-z_]+\b", text_of(page))}

    assert [name for name in named if f'"{name}' not in source] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_of_the_repository_exists(page: Path) -> None:
    folders = "consilium|training|service|tests|benchmarks|scripts|deploy|docs"
    named = re.findall(rf"`((?:{folders})/[\w./-]*\w)/?`", text_of(page))

    assert [name for name in named if not (ROOT / name).exists() and name not in MADE] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_module_in_code_style_exists(page: Path) -> None:
    named = re.findall(r"`((?:consilium|training|service)(?:\.\w+)+)`", text_of(page))
    paths = [name.replace(".", "/") for name in named]
    # A class or function of a module is named behind it.
    missing = [path for path in paths if not any(_is_module(one) for one in (path, path.rpartition("/")[0]))]

    assert missing == []


def _is_module(path: str) -> bool:
    return (ROOT / f"{path}.py").is_file() or (ROOT / path / "__init__.py").is_file()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_key_of_a_recipe_exists(page: Path) -> None:
    sections = {
        name: field.annotation.model_fields.keys()
        for name, field in Recipe.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel) and name != "cohort"
    }
    named = re.findall(rf"`({'|'.join(sections)})\.([a-z_]+)(?:[:=][^`]*)?`", text_of(page))

    assert [(name, key) for name, key in named if key not in sections[name] and key not in ("py", "yaml", "csv")] == []


def test_every_field_of_an_answer_exists() -> None:
    page = first_steps.section(text_of(ROOT / "docs" / "how-to" / "integrate.md"), "What an answer holds")
    columns = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    named = {name for column in columns for name in re.findall(r"`([\w\[\].]+)`", column)}
    results = (FindingResult, GradeResult, SurvivalResult)
    fields = {field.name for result in results for field in dataclasses.fields(result)}
    known = {*Diagnosis.model_fields, *DiagnosisAnswer.model_fields, *fields}

    assert {name.rpartition("[].")[2] for name in named} <= known
    assert len(named) > 10


# --- code blocks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", blocks_of("bash"))
def test_every_command_takes_these_arguments(script: str) -> None:
    for name, *words in commands_of(script):
        if name == "make":
            assert {word for word in words if "=" not in word} <= _TARGETS
        elif name == "python":
            assert (ROOT / words[0]).is_file()
        else:
            parse(words)
            find_recipe("phantom-demo", [value for key, value in pairwise(words) if key == "--set"])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_in_a_sentence_or_an_indented_block_exists(page: Path) -> None:
    text = text_of(page).replace("\\\n", " ")
    lines = re.findall(r"`((?:make|python) [^`]+)`|^ {4,}((?:make|python) .+)$", text, re.MULTILINE)
    named = [shlex.split(" ".join(line), comments=True) for line in lines]
    targets = {word for program, *words in named if program == "make" for word in words if "=" not in word}
    files = {words[0] for program, *words in named if program == "python" and not words[0].startswith("-")}

    assert targets <= _TARGETS
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_contributing_names_its_commands_where_they_are_looked_for() -> None:
    page = text_of(ROOT / "CONTRIBUTING.md")

    assert {"install", "quick", "test"} <= set(re.findall(r"^ {4}make ([a-z]+)", page, re.MULTILINE))
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_every_benchmark_that_the_makefile_or_the_code_names_exists() -> None:
    makefile = text_of(ROOT / "Makefile")
    [apart] = re.findall(r"^OF_COHORTS = \$\(addprefix benchmarks/,([\w. ]+)\)", makefile, re.MULTILINE)
    folders = ("consilium", "training", "service", "hospital", "scripts")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    named = {name for path in sources for name in re.findall(r"benchmarks/(\w+\.py)", text_of(path))}

    assert [name for name in sorted({*apart.split(), *named}) if not (ROOT / "benchmarks" / name).is_file()] == []


def parse(words: list[str]) -> None:
    """Let the command line parse `words`, and run nothing."""
    command: Any = typer.main.get_command(command_line)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        command, words = command.commands[words[0]], words[1:]
    command.make_context("consilium", list(words))


def test_a_wrong_option_is_found() -> None:
    with pytest.raises(Exception, match="--promotion"):
        parse(["train", "mine.yaml", "--cohort", "mine", "--promotion"])


@pytest.mark.parametrize("code", blocks_of("python"))
def test_every_import_works(code: str) -> None:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = import_module(node.module)
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


@pytest.mark.parametrize("document", blocks_of("yaml"))
def test_every_yaml_block_is_a_recipe_a_gateway_or_the_description_of_a_cohort(document: str) -> None:
    given = yaml.safe_load(document)
    if "cohort" in given:
        Recipe.from_mapping(given)
    elif given.keys() & {"destinations", "worklists", "smart_launch", "audit", "routes"}:
        whole = yaml.safe_load(text_of(ROOT / "deploy" / "gateway.yaml"))
        GatewaySettings.model_validate(
            whole | {key: whole.get(key, {}) | section for key, section in given.items()}, context={"folder": ROOT}
        )
    else:
        assert given.keys() <= {"name", "exclusive", "time_zone", "findings", "variables", "prompts", "targets"}


@pytest.mark.parametrize("document", blocks_of("toml"))
def test_every_toml_block_is_an_entry_point_of_ours(document: str) -> None:
    (group,) = tomllib.loads(document)["project"]["entry-points"]

    assert group in (registry.GROUP, cohorts.GROUP, renderers.GROUP)


# --- the README's cohort ---------------------------------------------------------------------------------------------


@pytest.fixture
def first(tmp_path: Path) -> Path:
    first_steps.write(tmp_path / "first")
    return tmp_path / "first"


def test_the_three_rows_are_a_cohort(first: Path) -> None:
    cohort = read_manifest(first / "mine")

    assert [record.study_id for record in cohort.records] == ["S1", "S2", "S3"]
    assert cohort.findings.names == ("pneumonia", "effusion")
    assert [record.parts["observations"][0].value for record in cohort.records] == [120, 8, 1]


def test_the_three_rows_are_too_few(first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", str(first / "mine")])

    assert "10 of each are the least" in capsys.readouterr().out


def test_the_recipe_and_the_commands_of_the_readme_are_those_of_the_page() -> None:
    page = text_of(ROOT / "docs" / "how-to" / "own-cohort.md")
    found = first_steps.blocks(first_steps.section(text_of(ROOT / "README.md"), first_steps.SECTION))
    (recipe,) = (text for language, text in found if language == "yaml")

    assert recipe in page
    assert Recipe.from_mapping(yaml.safe_load(recipe)).registered_name == "consilium-mine"


# --- reference pages -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    reference_pages.write(folder)
    return folder


def test_the_settings_page_has_every_setting_with_what_it_sets(reference: Path) -> None:
    lines = [line for line in text_of(reference / "settings.md").splitlines() if line.startswith(f"| `{PREFIX}")]
    texts = {line.split("`")[1]: line.rstrip("| ").rpartition("|")[2].strip() for line in lines}

    assert texts.keys() == {PREFIX + field.upper() for field in Settings.model_fields} | set(Variable)
    assert texts["CONSILIUM_CANARY_SHARE"].startswith("Of the patients, which share")


def test_the_gateway_page_has_every_section_and_key(reference: Path) -> None:
    page = text_of(reference / "gateway.md")
    keys = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))

    assert keys >= {*GatewaySettings.model_fields, *DicomPeerSettings.model_fields, *Conditions.model_fields}
    assert "## destinations.NAME (kind: fhir)" in page
    assert "| `quiet` | time, such as `60s`, `30m`, `12h`, `30d` | `60s` | Nothing arrived for as long. |" in page
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= {
        reference_pages.anchor(title) for title in re.findall(r"^## (.+)", page, re.MULTILINE)
    }


def test_the_recipe_page_has_every_section_and_key(reference: Path) -> None:
    page = text_of(reference / "recipes.md")

    assert all(f"| `{name}` |" in page for name in Recipe.model_fields)
    assert "| `learning_rate` | number, > 0 | `0.001` |" in page


def test_the_http_page_has_every_route(reference: Path) -> None:
    paths = json.loads(text_of(reference / "openapi.json"))["paths"]
    page = text_of(reference / "http-api.md")
    routes = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}

    assert {route for route in routes if f"\n## {route}\n" not in page} == set()
    assert "POST /v1/diagnose" in routes
    assert {
        path for route in create_app().routes if (path := getattr(route, "path_format", "")).startswith("/v1/")
    } <= set(paths)


def test_the_page_of_registers_has_every_key_of_a_declaration(reference: Path) -> None:
    page = text_of(reference / "registers.md")

    assert [field.name for field in dataclasses.fields(Modality) if f"| `{field.name}` |" not in page] == []
    assert all(f"| `{name}` |" in page for name in (*modalities(), *cohort_kinds(), *FUSIONS))


def test_the_commands_page_has_every_command(reference: Path) -> None:
    page = text_of(reference / "commands.md")

    assert all(f"\n## consilium {name}\n" in page for name in ("demo", "train", "models promote", "keys create"))
    assert "| `--set` | KEY=VALUE, repeatable | Change a key of the recipe; repeatable. |" in page
