"""A bento of the installed packages, with a model inside or an alias to follow; built without a network.

What goes in is listed, never what stays out: the packages' own files, the license, a verified artifact and the pins of
what is installed. No setting of the machine that builds it is written down, so no key, token or address of it either.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from itertools import takewhile
from pathlib import Path

import yaml

import consilium
from consilium import __version__
from consilium.artifacts.model_registry import follows_alias, resolve
from consilium.artifacts.packed_model import pack
from consilium.domain.diagnosis import ModelIdentity
from consilium.domain.errors import ConsiliumError, InputError
from service.packaging import bento_contents as contents
from service.packaging.pins import requirements
from service.settings import PREFIX

_PACKAGES = {"consilium": Path(consilium.__file__).parent, "service": Path(__file__).parents[1]}
_SHIPPED = frozenset({".py", ".typed", ".csv", ".json", ".yaml", ".j2", ".js", ".css"})
"""Suffixes of the packages' files. Whatever else lies in a checkout is nobody's business."""
_WHOLE = ("service/page/static", "consilium/output/dicom/fonts")
"""Folders of which every file is shipped."""
_REQUIREMENTS, _BENTOFILE, _SETUP = "requirements.txt", "bentofile.yaml", "setup.sh"
_IN_IMAGE = "/home/bentoml/bento/src"
"""Where BentoML's image keeps what a bento was built from."""
_HOME = "/var/lib/consilium"
"""``CONSILIUM_HOME`` in the image: a volume there belongs to the image's user from its start."""
_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "BENTOML_DO_NOT_TRACK": "True",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_BUILD = """
import json, bentoml
bento = bentoml.bentos.build_bentofile()
print(json.dumps([str(bento.tag), bento.path]))
"""


EXTRAS = ("postgresql", "s3", "cpu-fast", "flac", "jpeg-extended")
"""What an image can have beside `serve`: for the service, or for MLflow's server, which runs in the same image."""


class BuildFailed(ConsiliumError):
    """BentoML built no bento."""


@dataclass(frozen=True, slots=True)
class Built:
    """A bento in BentoML's store.

    Attributes
    ----------
    source : str
        What it serves, as it was asked for.
    model : ModelIdentity or None
        The model inside; None where it follows an alias.
    """

    tag: str
    folder: Path
    source: str
    model: ModelIdentity | None

    @property
    def dockerfile(self) -> Path:
        return self.folder / "env" / "docker" / "Dockerfile"


def build(source: str, *, follow: bool = False, extras: Sequence[str] = ()) -> Built:
    """Build a bento of the model that `source` names, as `consilium.artifacts.model_registry.resolve` takes it.

    Parameters
    ----------
    follow : bool
        Pack no model: the bento follows the alias `source` in whatever registry it finds when it runs.
    extras : sequence of str
        Of `EXTRAS`: what the image has beside what the service needs.

    Raises
    ------
    InputError, RegistryError, ArtifactError
        Where there is no such model, nothing to follow, or an extra is none of `EXTRAS` or not installed here.
    BuildFailed
    """
    if follow and not follows_alias(source):
        raise InputError("model", source, "must be models:/NAME@ALIAS with --follow")
    pins = _pins(extras)
    with tempfile.TemporaryDirectory(prefix="consilium-bento-") as made:
        context = Path(made)
        _copy_packages(context)
        model = None
        if follow:
            (context / contents.SOURCE).write_text(f"{source}\n", encoding="utf-8")
        else:
            found = resolve(source)
            model = found.identity
            pack(found.folder, model, context / contents.MODEL)
        (context / _REQUIREMENTS).write_text(pins, encoding="utf-8")
        setup = f"#!/bin/sh\nset -e\ninstall -d -m 0750 -o bentoml -g bentoml {_HOME}\n"
        (context / _SETUP).write_text(setup, encoding="utf-8")
        options = yaml.safe_dump(_options(source, model), sort_keys=False)
        (context / _BENTOFILE).write_text(options, encoding="utf-8")
        return Built(*_built(context), source, model)


def _pins(extras: Sequence[str]) -> str:
    for extra in extras:
        if extra not in EXTRAS:
            raise InputError("extra", extra, f"must be one of {', '.join(EXTRAS)}")
        try:
            requirements("consilium", extra)
        except PackageNotFoundError:
            rule = f"is not installed here, and the image has what is: pip install 'consilium[{extra}]'"
            raise InputError("extra", extra, rule) from None
    return requirements("consilium", "serve", *extras)


def _copy_packages(context: Path) -> None:
    for name, package in _PACKAGES.items():
        for file in sorted(package.rglob("*")):
            place = context / name / file.relative_to(package)
            whole = any(place.is_relative_to(context / folder) for folder in _WHOLE)
            if file.is_file() and (whole or file.suffix in _SHIPPED):
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, place)
    for listed in distribution("consilium").files or ():
        if listed.name == "LICENSE":
            shutil.copyfile(str(listed.locate()), context / "LICENSE")


def _options(source: str, model: ModelIdentity | None) -> dict[str, object]:
    """The bentofile's options."""
    labels = {"project": "consilium", "consilium": __version__}
    served = f"{_IN_IMAGE}/{contents.MODEL}"
    if model is None:
        labels["follows"] = served = source
    else:
        labels |= {"model": model.name, "version": model.version, "manifest_digest": model.manifest_digest}
    # PYTHONPATH lets `python -m consilium.cli` find the packages from any folder of the image.
    environment = _QUIET | {f"{PREFIX}MODEL": served, f"{PREFIX}HOME": _HOME, "PYTHONPATH": _IN_IMAGE}
    return {
        "service": "service.packaging.packed:Consilium",
        "name": "consilium",
        "description": _description(source, model),
        "labels": labels,
        "include": ["/consilium/", "/service/", "/LICENSE", f"/{contents.MODEL}/", f"/{contents.SOURCE}"],
        # Exact already, all the way down; and building needs no network.
        "python": {"requirements_txt": _REQUIREMENTS, "lock_packages": False},
        "docker": {
            "python_version": f"{sys.version_info.major}.{sys.version_info.minor}",
            "setup_script": _SETUP,
        },
        "envs": [{"name": name, "value": value} for name, value in environment.items()],
    }


def _description(source: str, model: ModelIdentity | None) -> str:
    if model is None:
        served = f"Follows `{source}` in the registry that `MLFLOW_TRACKING_URI` names."
    else:
        served = f"Serves {model.name} version {model.version}, manifest digest {model.manifest_digest}, from inside."
    return f"# Consilium {__version__}\n\n{served}\nDecision support for research, no certified medical device.\n"


def _built(context: Path) -> tuple[str, Path]:
    """Tag and folder of the bento that BentoML builds of the bentofile in `context`.

    In a process of its own: BentoML imports the service from the copy, whose packages this process has already. Not by
    its command, which breaks its lines at a width and colours them.
    """
    environment = _without_settings(os.environ) | _QUIET
    # BentoML calls uv by its name.
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    ended = subprocess.run(  # noqa: S603 - the command is ours
        [sys.executable, "-c", _BUILD],
        cwd=context,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        raise BuildFailed(f"BentoML built no bento (code {ended.returncode}): {_reason(ended.stderr)}")
    tag, folder = json.loads(ended.stdout.splitlines()[-1])
    return tag, Path(folder)


def _reason(errors: str) -> str:
    """What follows the last trace: its lines are indented, the error's own are not."""
    lines = errors.strip().splitlines()
    reason = list(takewhile(lambda line: not line.startswith(" "), reversed(lines)))
    return " ".join(reversed(reason))


def _without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith((PREFIX, "MLFLOW_"))}
