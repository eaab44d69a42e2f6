"""Packages that only collect names are loaded name by name, and MONAI is the same with it and without."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from consilium.system.lazy_packages import collected_names, import_lazily

_ROOT = Path(__file__).parents[3]
_FILES = {
    "__init__.py": "from .walk import everything\neverything(__name__, __path__)\nfrom .base import VERSION\n",
    "walk.py": """
import pkgutil
from importlib import import_module


class OptionalImportError(ImportError):
    pass


def everything(name, path):
    for found in pkgutil.walk_packages(path, f"{name}.", onerror=lambda _: None):
        try:
            import_module(found.name)
        except OptionalImportError:
            pass
""",
    "base.py": "VERSION = '1'\n",
    "light/__init__.py": """
'Collects.'
from __future__ import annotations
from .one import One
from .two import Two as Second
""",
    "light/one.py": "class One:\n    pass\n",
    "light/two.py": "class Two:\n    pass\n",
    "busy/__init__.py": "from .three import THREE\n\nSIX = 2 * THREE\n",
    "busy/three.py": "THREE = 3\n",
    # Each takes from the other while it is imported, which holds only where `second` begins.
    "first/__init__.py": "from .parts import PARTS\nfrom .whole import WHOLE\n",
    "first/parts.py": "from {name}.second.value import VALUE\nPARTS = VALUE\n",
    "first/whole.py": "WHOLE = 1\n",
    "second/__init__.py": "from .taker import TAKEN\n\nDONE = True\n",
    "second/taker.py": "from {name}.first import PARTS, WHOLE\nTAKEN = PARTS + WHOLE\n",
    "second/value.py": "VALUE = 1\n",
}
HEAVY = ("mlflow", "pandas", "matplotlib", "sklearn", "jsonschema", "transformers", "scipy.optimize", "lightning")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Name of a package that imports all that is below it."""
    name = f"lazy_{abs(hash(request.node.name))}"
    for path, text in _FILES.items():
        file = tmp_path / name / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("{name}", name), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    return name


def _lazily(name: str) -> object:
    return import_lazily(name, f"{name}.walk", (f"{name}.base",), {f"{name}.first": f"{name}.second"})


def test_nothing_is_loaded_that_is_not_asked_for(package: str) -> None:
    module = _lazily(package)

    assert module.VERSION == "1"
    assert f"{package}.light" not in sys.modules
    assert f"{package}.busy" not in sys.modules


def test_names_and_modules_come_when_they_are_asked_for(package: str) -> None:
    module = _lazily(package)

    assert module.light.One.__module__ == f"{package}.light.one"
    assert f"{package}.light.two" not in sys.modules
    assert module.light.Second.__name__ == "Two"
    assert module.light.two.Two is module.light.Second
    assert {"One", "Second", "one", "two"} <= set(dir(module.light))
    assert module.light.__all__ == ["One", "Second"]
    with pytest.raises(AttributeError, match="has no attribute 'Three'"):
        _ = module.light.Three
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = module.nothing


def test_a_package_that_does_more_than_collect_runs_as_it_is(package: str) -> None:
    module = _lazily(package)

    assert module.busy.SIX == 6
    assert f"{package}.busy.three" in sys.modules


@pytest.mark.parametrize("asked", ["first", "second"])
def test_packages_that_import_each_other_come_together(package: str, asked: str) -> None:
    module = _lazily(package)

    getattr(module, asked)

    assert (module.second.TAKEN, module.second.DONE) == (2, True)
    assert (module.first.PARTS, module.first.WHOLE) == (1, 1)


def test_what_is_loaded_already_stays(package: str) -> None:
    before = len(sys.meta_path)
    first = _lazily(package)

    assert _lazily(package) is first
    assert len(sys.meta_path) == before + 1


def test_a_package_that_fails_leaves_no_finder(package: str) -> None:
    before = list(sys.meta_path)

    with pytest.raises(ImportError, match="base is imported where"):
        import_lazily(package, f"{package}.walk", ())

    assert sys.meta_path == before


@pytest.mark.parametrize(
    "source",
    ["X = 1", "import os", "from os import path", "from . import one", "from .one import *", "from ..up import X"],
)
def test_what_else_an_init_does_is_seen(source: str) -> None:
    assert collected_names(source, "package") is None


def _run(code: str, folder: Path) -> str:
    command = [sys.executable, "-c", code]
    environment = {"PYTHONPATH": str(_ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "HOME": str(folder)}
    ended = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()[-1]


_ANSWER = """
def answer(net):
    torch.manual_seed(1)
    with torch.no_grad():
        return hashlib.sha256(net.eval()(torch.rand(1, 1, 64, 64)).numpy().tobytes()).hexdigest()
"""
_LAZY = f"""
import hashlib, importlib, json, pkgutil, sys
import torch
from consilium.modalities.image.backbones.monai_networks import DenseNet121
import consilium.inference.diagnostician
heavy = [name for name in {HEAVY!r} if name in sys.modules]
{_ANSWER}
torch.manual_seed(0)
net = DenseNet121(spatial_dims=2, in_channels=1, out_channels=3)
torch.save(net, "net.pt")
here = answer(net)
import monai
started = "monai.utils.tf32" in sys.modules and monai.__version__ != ""
from monai.networks.nets import *
assert SwinUNETR.__module__ == "monai.networks.nets.swin_unetr"
assert monai.transforms.Resize.__module__.startswith("monai.transforms")
failed = []
for found in pkgutil.walk_packages(monai.__path__, "monai.", onerror=failed.append):
    if not found.name.endswith("__main__") and not found.name.startswith("monai._C"):
        importlib.import_module(found.name)
assert monai.networks.nets.DenseNet121 is DenseNet121
print(json.dumps([heavy, started, failed, here]))
"""
_PLAIN = f"""
import hashlib
import torch
import monai
from monai.networks.nets import DenseNet121
{_ANSWER}
torch.manual_seed(0)
built = answer(DenseNet121(spatial_dims=2, in_channels=1, out_channels=3))
read = answer(torch.load("net.pt", weights_only=False))
print(built, read)
"""


def test_monai_is_the_same_lazily_and_as_it_loads_itself(tmp_path: Path) -> None:
    """Nothing heavy comes along, everything else can still be had, and networks and pickles are the same."""
    heavy, started, failed, answer = json.loads(_run(_LAZY, tmp_path))

    assert (heavy, started, failed) == ([], True, [])
    assert _run(_PLAIN, tmp_path).split() == [answer, answer]
