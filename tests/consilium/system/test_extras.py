from __future__ import annotations

from importlib.metadata import requires

import pytest
from packaging.requirements import Requirement

from consilium.cli import main
from consilium.system import extras
from consilium.system.extras import extra_that_installs


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("torch", "model"),
        ("PIL.Image", "records"),
        ("sklearn.metrics", "train"),
        ("opentelemetry.trace", "serve"),
        ("openvino", "cpu-fast"),
        ("httpx", None),
        ("no_such_module", None),
    ],
)
def test_the_extra_that_lists_the_distribution_of_a_module_is_found(module: str, extra: str | None) -> None:
    assert extra_that_installs(module) == extra


def test_every_distribution_that_is_named_is_a_dependency() -> None:
    listed = {Requirement(line).name for line in requires("consilium") or ()}

    assert set(extras._DISTRIBUTIONS.values()) <= listed


@pytest.mark.parametrize(
    ("importer", "extra"), [("consilium.inference", "model"), ("training.pipeline", "train"), ("service.auth", "serve")]
)
def test_a_command_whose_packages_are_missing_says_what_to_install(
    importer: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = {"__name__": importer}
    exec("def app(**_): raise ModuleNotFoundError(name='torch')", missing)
    monkeypatch.setattr("consilium.cli.app", missing["app"])

    assert main(["diagnose"]) == 1
    warning = f"error: torch is not installed; this command needs pip install 'consilium[{extra}]'"
    assert capsys.readouterr().err.strip() == warning


def test_a_module_that_no_extra_brings_is_a_fault_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def app(**_: object) -> None:
        raise ModuleNotFoundError(name="consilium.gone")

    monkeypatch.setattr("consilium.cli.app", app)
    with pytest.raises(ModuleNotFoundError):
        main(["diagnose"])
