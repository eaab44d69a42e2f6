"""Packages whose ``__init__`` does nothing but collect names, loaded name by name.

MONAI loads itself whole: its top package imports every module below it, many of them twice, and with them MLflow,
pandas, matplotlib, scikit-learn and transformers, for nine times the CPU time of torch. What Consilium uses of it costs
a fifth of torch. The finder and loaders here are the standard library's own protocol (PEP 302, PEP 562) and answer for
one top package alone. Whatever is below it can be imported as before, then and later.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

_NONE: Mapping[str, str] = MappingProxyType({})


def import_lazily(top: str, walker: str, needed: Collection[str], along: Mapping[str, str] = _NONE) -> ModuleType:
    """Import the package `top`, and from now on the packages below it that only collect names lazily.

    Parameters
    ----------
    top : str
        A package whose own ``__init__`` walks over all that is below it and imports that. It runs, but a module that
        the walk asks for is refused, as if something that it needs were not installed. Loaded already, `top` stays as
        it is.
    walker : str
        The module that does the walking, with the class ``OptionalImportError`` that the walk passes over.
    needed : collection of str
        Modules that `top` itself cannot do without.
    along : mapping of str to str
        Packages that import each other in a circle which holds only in one order: the first with the second.
    """
    if top in sys.modules:
        return sys.modules[top]
    finder = _Finder(top, walker, needed, along)
    sys.meta_path.insert(0, finder)
    try:
        module = import_module(top)
    except BaseException:
        sys.meta_path.remove(finder)
        raise
    finder.walked = True
    _load_on_demand(module, {}, finder.refused)
    return module


def collected_names(source: str, package: str) -> dict[str, tuple[str, str]] | None:
    """Of an ``__init__`` that only imports names from modules below it: name → its module, and what that calls it.

    None where it does anything else.
    """
    found: dict[str, tuple[str, str]] = {}
    for statement in ast.parse(source).body:
        match statement:
            case ast.Expr(ast.Constant()) | ast.ImportFrom("__future__"):
                continue
            case ast.ImportFrom(str(module), names, 1) if all(name.name != "*" for name in names):
                found |= {name.asname or name.name: (f"{package}.{module}", name.name) for name in names}
            case _:
                return None
    return found


class _Finder(MetaPathFinder):
    """Finds what is below `top` as the path does, with a lazy loader for packages that only collect names."""

    def __init__(self, top: str, walker: str, needed: Collection[str], along: Mapping[str, str]) -> None:
        self.top, self.walker, self.needed, self.along = top, walker, needed, along
        self.walked = False
        self.refused: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(f"{self.top}."):
            return None
        refusal = getattr(sys.modules.get(self.walker), "OptionalImportError", None)
        if not self.walked and refusal is not None and fullname not in self.needed:
            self.refused.add(fullname.removeprefix(f"{self.top}.").partition(".")[0])
            raise refusal(f"{fullname} is imported where it is asked for")
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None and spec.submodule_search_locations and spec.has_location:
            names = collected_names(Path(str(spec.origin)).read_text(encoding="utf-8"), fullname)
            if names is not None:
                spec.loader = _LazyLoader(spec.loader, names, self.along.get(fullname))
        return spec


class _LazyLoader(Loader):
    def __init__(self, loader: Loader, names: Mapping[str, tuple[str, str]], along: str | None) -> None:
        self._loader, self._names, self._along = loader, names, along

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        _load_on_demand(module, self._names)
        if self._along is not None:
            import_module(self._along)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)  # sources and resources, which inspect and importlib ask for


def _load_on_demand(module: ModuleType, names: Mapping[str, tuple[str, str]], below: Collection[str] = ()) -> None:
    """Give `module` the `names`, each imported when it is asked for, and likewise the modules right below it."""
    package = module.__name__
    modules = {source.removeprefix(f"{package}.").partition(".")[0] for source, _ in names.values()} | {*below}

    def lookup(name: str) -> Any:
        if name in names:
            source, called = names[name]
            value = getattr(import_module(source), called)
            setattr(module, name, value)
            return value
        if name in modules and find_spec(f"{package}.{name}") is not None:
            return import_module(f"{package}.{name}")
        if name == "__all__" and names:
            return sorted(names)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    vars(module)["__getattr__"] = lookup
    vars(module)["__dir__"] = lambda: sorted({*vars(module), *names, *modules})
