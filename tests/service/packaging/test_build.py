"""What goes into a bento; that it is built and answers stands in `tests/integration/test_bento.py`."""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from consilium.domain.diagnosis import ModelIdentity
from consilium.domain.errors import ArtifactError, InputError
from service.packaging import bento_contents as contents
from service.packaging import build as bento
from tests.conftest import ROOT

IDENTITY = ModelIdentity("consilium-ward", "7", "ab" * 32)
ALIAS = "models:/consilium-ward@champion"


@pytest.mark.parametrize("source", ["models:/consilium-ward/7", "model-folder", ""])
def test_only_an_alias_can_be_followed(source: str) -> None:
    with pytest.raises(InputError, match="must be models:/NAME@ALIAS with --follow"):
        bento.build(source, follow=True)


def test_an_extra_adds_its_pins_to_those_of_the_service() -> None:
    plain, with_driver = (set(bento._pins(extras).splitlines()) for extras in ((), ("postgresql",)))
    assert plain < with_driver
    assert {line.partition("==")[0] for line in with_driver - plain} == {"psycopg", "psycopg-binary"}


def test_an_extra_that_is_unknown_or_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="extra: got 'oracle', must be one of postgresql, s3, cpu-fast, flac,"):
        bento.build(ALIAS, follow=True, extras=["oracle"])

    def requirements(*_: str) -> str:
        raise PackageNotFoundError("psycopg")

    monkeypatch.setattr(bento, "requirements", requirements)
    with pytest.raises(InputError, match=r"extra: got 'postgresql', is not installed here.*consilium\[postgresql\]"):
        bento.build(ALIAS, follow=True, extras=["postgresql"])


def test_what_is_no_model_is_not_packed(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"manifest\.json: is missing"):
        bento.build(str(tmp_path))


def test_every_file_of_the_packages_goes_into_a_bento(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: what belongs to the packages is not known")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "consilium", "service"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    bento._copy_packages(tmp_path)
    assert [name for name in listed.stdout.split("\0") if name and not (tmp_path / name).is_file()] == []


def test_a_failed_build_shows_the_error_of_bentoml(tmp_path: Path) -> None:
    (tmp_path / "bentofile.yaml").write_text("service: nowhere:Nothing\n")
    with pytest.raises(bento.BuildFailed, match=r"BentoML built no bento \(code 1\): bentoml\.exceptions.*nowhere"):
        bento._built(tmp_path)


def test_labels_say_what_is_inside_and_the_image_knows_where() -> None:
    options = bento._options("models:/consilium-ward/7", IDENTITY)
    assert options["labels"] == {
        "project": "consilium",
        "consilium": bento.__version__,
        "model": "consilium-ward",
        "version": "7",
        "manifest_digest": "ab" * 32,
    }
    assert {"name": "CONSILIUM_MODEL", "value": "/home/bentoml/bento/src/model"} in options["envs"]  # type: ignore[operator]


def test_a_following_bento_names_its_alias_and_no_model() -> None:
    options = bento._options(ALIAS, None)
    assert options["labels"] == {"project": "consilium", "consilium": bento.__version__, "follows": ALIAS}
    assert {"name": "CONSILIUM_MODEL", "value": ALIAS} in options["envs"]  # type: ignore[operator]


def test_what_a_bento_serves_lies_beside_its_packages(tmp_path: Path) -> None:
    assert contents.source(tmp_path) == str(tmp_path / "model")
    (tmp_path / contents.SOURCE).write_text(f"{ALIAS}\n")
    assert contents.source(tmp_path) == ALIAS


def test_a_build_passes_no_setting_of_this_machine_to_bentoml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CONSILIUM_AUDIT_LOG_URL", "postgresql://u:secret@db/record")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    names = "[n for n in os.environ if n.startswith(('CONSILIUM_', 'MLFLOW_'))]"
    monkeypatch.setattr(bento, "_BUILD", f"import json, os; print(json.dumps([{names}, '/']))")
    assert bento._built(tmp_path)[0] == ["MLFLOW_DISABLE_TELEMETRY"]
