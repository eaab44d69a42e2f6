"""The project itself: pins, borders, and what the wheel holds."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from collections import Counter
from importlib.metadata import metadata, packages_distributions, requires
from pathlib import Path

import mlflow
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import consilium
from consilium.artifacts.embedded_store import sqlite_url
from consilium.artifacts.mlflow_store import experiment_id, open_store
from consilium.cli import main
from consilium.domain.errors import RegistryError
from service.packaging.pins import closure
from tests.conftest import NOT_QUICK, ROOT

PACKAGES = ("consilium", "training", "service", "hospital")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SHIPPED = ("records", "flac", "jpeg-extended", "stores", "process", "model", "train", "serve", "postgresql", "cpu-fast")
"""Extras of what a user runs."""
OF_A_MODALITY = {
    "section",
    "records",
    "preparation",
    "augmentation",
    "encoder",
    "explanation",
    "presentation",
    "typicality",
    "phantom",
}
LOCK = [Requirement(line) for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()]

# Named by no import: what uses each of them.
OF_TRAININGS = {"peft": "low-rank changes, which are merged into the weights before a model is saved"}
NEVER_IMPORTED = {
    "einops": "MONAI's ViT",
    "httptools": "uvicorn's parser",
    "pyjpegls": "pydicom's JPEG-LS decoder",
    "pylibjpeg": "pydicom's decoders",
    "pylibjpeg-libjpeg": "pydicom's JPEG Extended decoder",
    "pylibjpeg-openjpeg": "pydicom's JPEG 2000 decoder",
    "pylibjpeg-rle": "pydicom's RLE decoder",
    "python-gdcm": "pydicom's JPEG Lossless decoder",
    "tzdata": "Python's zoneinfo",
    "uv": "BentoML's build",
    "uvloop": "uvicorn's event loop",
}


TAKEN_WHERE_THEY_ARE = {
    "setuptools",  # by .pth files of site-packages
    "click",  # by httpx
    *("requests", "tqdm", "urllib3", "chardet", "charset-normalizer", "pylibjpeg-libjpeg"),  # by pydicom and pylibjpeg
}
"""Distributions that others import where they are installed, and do without where they are not."""


def modules_of(package: str) -> list[Path]:
    return [path.relative_to(ROOT) for path in (ROOT / package).rglob("*.py") if not path.stem.startswith("__")]


def direct(*extras: str) -> list[Requirement]:
    lines = [*PROJECT["dependencies"]] if not extras else []
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    return [requirement for requirement in map(Requirement, lines) if requirement.name != PROJECT["name"]]


def pinned(*extras: str) -> set[str]:
    """What ``scripts/pinned.py`` prints for `extras`."""
    command = [sys.executable, ROOT / "scripts" / "pinned.py", *extras]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


def imported(package: str) -> list[set[str]]:
    """For every module outside the project that `package` imports, the distributions that install it."""
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / package).rglob("*.py"))
    modules = set(re.findall(r"^\s*(?:import|from)\s+(\w+)", sources, re.MULTILINE)) - set(PACKAGES)
    owners = packages_distributions()
    return [{canonicalize_name(owner) for owner in owners[module]} for module in modules if module in owners]


def licence_of(distribution: str) -> str:
    """What its metadata say: expression, text (its first line, where it is the whole licence) and classifiers."""
    described = metadata(distribution)
    text = (described.get("License") or "").partition("\n")[0]
    classifiers = [one for one in described.get_all("Classifier") or () if one.startswith("License ::")]
    return " ".join([described.get("License-Expression") or "", text, *classifiers])


def shipped_files() -> set[str]:
    found = (path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file())
    return {path.relative_to(ROOT).as_posix() for path in found if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_every_direct_dependency_is_a_range_from_the_version_in_the_lock() -> None:
    """What is below it was never tested."""
    locked = {requirement.name: str(requirement.specifier).removeprefix("==") for requirement in LOCK}
    wanted = direct() + direct(*PROJECT["optional-dependencies"])
    lowest = {(one.name, bound.operator): bound.version for one in wanted for bound in one.specifier}

    assert {one.name: lowest.get((one.name, ">=")) for one in wanted} == {
        one.name: locked[canonicalize_name(one.name)] for one in wanted
    }


def test_only_what_is_numbered_by_the_year_has_no_upper_bound() -> None:
    wanted = direct() + direct(*PROJECT["optional-dependencies"])

    assert {one.name for one in wanted if "<" not in str(one.specifier)} == {"tzdata", "furo"}
    assert {bound.operator for one in wanted for bound in one.specifier} == {">=", "<"}


def test_no_dependency_is_named_by_two_extras() -> None:
    names = Counter(one.name for one in direct() + direct(*PROJECT["optional-dependencies"]))

    assert [name for name, count in names.items() if count > 1] == []


def test_every_direct_dependency_is_given_with_a_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")

    assert len(re.findall(r'^ {4}"[^"]+>=[^"]+", +# \S.*$', text, re.MULTILINE)) > 60
    assert re.findall(r'^ {4}"[^"]+>=[^"]+",(?! +# \S).*$', text, re.MULTILINE) == []


@pytest.mark.parametrize(
    ("extra", "copyleft"),
    [
        ("", []),
        ("records", []),
        ("stores", []),
        ("process", []),
        ("model", []),
        ("train", []),
        ("serve", []),
        ("postgresql", ["psycopg", "psycopg-binary"]),
        ("cpu-fast", []),
        ("ray", []),
        ("hospital", []),
        ("flac", []),
        ("jpeg-extended", ["pylibjpeg-libjpeg"]),
    ],
)
def test_no_dependency_is_under_a_gnu_licence_but_those_named_here(extra: str, copyleft: list[str]) -> None:
    """LGPL-3.0 of the PostgreSQL driver; GPL-3.0 of 12-bit JPEG Extended, which is an extra for that reason."""
    gnu = re.compile(r"\b[AL]?GPL|GNU (Affero|General|Lesser|Library)")
    needed = closure(PROJECT["name"], extra) if extra else closure(PROJECT["name"])
    found = {name for name in needed if gnu.search(licence_of(name))}

    assert sorted(found) == copyleft


def test_the_environment_was_installed_from_this_project_file() -> None:
    extras = PROJECT["optional-dependencies"]
    written = {*PROJECT["dependencies"]}.union(*(extras[extra] for extra in extras))
    installed = map(Requirement, requires(PROJECT["name"]) or ())

    missing = {canonicalize_name(Requirement(line).name) for line in written} - {
        canonicalize_name(requirement.name) for requirement in installed
    }
    assert missing <= {PROJECT["name"]}, "make install"


def test_the_lock_is_what_everything_needs_and_names_no_machine() -> None:
    assert {str(requirement) for requirement in LOCK} == pinned("dev")
    assert all(requirement.url is None and "+" not in str(requirement) for requirement in LOCK)


def test_every_pin_installs_on_the_oldest_python_of_the_project_file() -> None:
    """Debian has an early 3.11: a pin that asks for a later one ends the installation there."""
    lower = re.search(r">=(\d+\.\d+)", metadata("consilium")["Requires-Python"])
    assert lower is not None
    for pin in LOCK:
        asked = metadata(pin.name).get("Requires-Python")
        assert asked is None or SpecifierSet(asked).contains(f"{lower[1]}.0"), (pin.name, asked)


@pytest.mark.parametrize(
    ("package", "extras"),
    [
        ("consilium", ["records", "flac", "stores", "model", "cpu-fast", "postgresql", "hospital"]),
        ("training", ["records", "stores", "model", "train", "ray"]),
        ("service", ["records", "stores", "process", "model", "serve", "postgresql"]),
        ("hospital", ["records", "stores", "process", "hospital"]),
    ],
)
def test_every_import_is_a_direct_dependency_of_the_extra_that_installs_it(package: str, extras: list[str]) -> None:
    declared = {canonicalize_name(one.name) for one in direct() + direct(*extras)}

    assert [owners for owners in imported(package) if not owners & (declared | set(OF_TRAININGS))] == []


def test_what_the_quick_tests_leave_out_exists() -> None:
    assert [place for place in NOT_QUICK if not (ROOT / place).exists()] == []


def test_no_direct_dependency_is_left_over() -> None:
    declared = {canonicalize_name(one.name) for one in direct() + direct(*SHIPPED)}
    used = set().union(*(owners for package in PACKAGES for owners in imported(package)))

    assert declared - used == set(NEVER_IMPORTED)


@pytest.mark.parametrize(
    ("extras", "statement"),
    [
        ([], "import consilium.api.schemas"),
        ([], "from consilium import Client, AsyncClient"),
        ([], "import consilium.configuration.recipe"),
        ([], "import consilium.output.terminal"),
        ([], "import consilium.cli"),
        (["records"], "import consilium.ingest.study_records, consilium.ingest.decode_pool"),
        (["records"], "import consilium.output.report"),
        (["records"], "import consilium.api.explanations"),
    ],
)
def test_no_more_is_imported_than_the_installation_brings(extras: list[str], statement: str) -> None:
    code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    owners = packages_distributions()
    needed = {canonicalize_name(owner) for name in loaded for owner in owners.get(name, ())[:1]}

    allowed = {line.partition("==")[0] for line in pinned(*extras)} | {"consilium"}
    assert needed - allowed <= TAKEN_WHERE_THEY_ARE


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Diagnosticon"):
        consilium.Diagnosticon  # noqa: B018


def test_the_borders_between_the_packages_hold() -> None:
    command = [Path(sys.executable).parent / "lint-imports", "--no-logo", "--no-cache"]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert outcome.returncode == 0, outcome.stdout
    assert " 0 broken" in outcome.stdout


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_name_comes_twice_in_a_package(package: str) -> None:
    """But those that every modality's folder has."""
    names = Counter(path.stem for path in modules_of(package) if path.stem not in OF_A_MODALITY)

    assert [name for name, count in names.items() if count > 1] == []


def test_every_file_of_the_packages_is_in_the_wheel_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}

    assert inside == shipped_files()


def test_the_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    info = f"consilium-{consilium.__version__}.dist-info"
    described = wheel.read(f"{info}/METADATA").decode()

    assert "License-Expression: Apache-2.0" in described
    assert "Requires-Python: <3.14,>=3.11" in described
    assert b"consilium = consilium.cli:main" in wheel.read(f"{info}/entry_points.txt")
    assert wheel.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()


def test_the_bento_takes_the_wheel_of_this_version() -> None:
    bento = yaml.safe_load((ROOT / "bentofile.yaml").read_text(encoding="utf-8"))

    assert bento["python"]["wheels"] == [f"dist/consilium-{consilium.__version__}-py3-none-any.whl"]


def test_the_hooks_of_a_commit_run_programs_of_the_environment() -> None:
    (given,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    programs = {hook["entry"].split()[0] for hook in given["hooks"]}
    scripts = [word for hook in given["hooks"] for word in hook["entry"].split() if word.endswith(".py")]

    assert {program.removeprefix(".venv/bin/") for program in programs} == {"ruff", "lint-imports", "python"}
    assert [script for script in scripts if not (ROOT / script).is_file()] == []


def test_every_folder_of_tests_is_a_package() -> None:
    folders = {path.parent for path in (ROOT / "tests").rglob("*.py")}

    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize("name", ["new", "what?a=1", "a%20b 100%"])
def test_a_moved_model_store_finds_its_artifacts_after_the_documented_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    page = (ROOT / "mlruns" / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^    consilium (models relocate)$", page, re.MULTILINE)
    old, new = tmp_path / "old", tmp_path / name
    old.mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{old / 'mlflow.db'}")
    client = open_store(create=True)
    run = client.create_run(experiment_id("phantoms")).info
    client.log_text(run.run_id, "0.93", "auroc.txt")
    client.create_registered_model("consilium-phantoms")
    client.create_model_version("consilium-phantoms", source=run.artifact_uri, run_id=run.run_id)

    old.rename(new)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_url(new / "mlflow.db"))
    with pytest.raises(RegistryError, match="consilium models relocate"):
        open_store()
    assert main(command.split()) == 0

    moved = open_store()
    where = moved.get_run(run.run_id).info.artifact_uri
    assert mlflow.artifacts.load_text(f"{where}/auroc.txt") == "0.93"
    assert moved.get_model_version("consilium-phantoms", "1").source == where
    assert main(command.split()) == 0, "a second time there is nothing to do"
