"""How large the code's parts are: ``python scripts/house.py``; with ``--check`` it fails where one is too large.

Code lines are lines that hold a token of code: no blank lines, comments or docstrings. A function's are those of its
body and signature, without the functions defined inside it.
"""

from __future__ import annotations

import argparse
import ast
import io
import sys
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("consilium", "training", "service", "hospital")
MEDIAN_FUNCTION, LONGEST_FUNCTION, LONGEST_MODULE, MOST_MODULES = 8, 60, 400, 14
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef | ast.Module


@dataclass(frozen=True, slots=True)
class Size:
    """Lines of one module or function, and where it stands."""

    place: str
    lines: int


def code_lines(source: str) -> set[int]:
    """Numbers of the lines of `source` that hold code."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    held = (range(one.start[0], one.end[0] + 1) for one in tokens if one.type not in _NO_CODE)
    lines = {line for lines in held for line in lines}
    for definition in ast.walk(ast.parse(source)):
        if isinstance(definition, Definition) and ast.get_docstring(definition, clean=False) is not None:
            lines -= set(_span(definition.body[0]))
    return lines


def functions(source: str, place: str) -> Iterator[Size]:
    """Every function of `source` with its code lines."""
    lines = code_lines(source)
    found = [one for one in ast.walk(ast.parse(source)) if isinstance(one, Function)]
    for function in found:
        others = (one for one in ast.walk(function) if one is not function and isinstance(one, Function))
        inner = {line for other in others for line in _span(other)}
        yield Size(f"{place}:{function.lineno} {function.name}", len(lines & (set(_span(function)) - inner)))


def modules() -> list[Path]:
    """Every module of the packages."""
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@dataclass(frozen=True, slots=True)
class House:
    """What was measured."""

    functions: list[Size]
    modules: list[Size]
    folders: list[Size]

    @property
    def median(self) -> float:
        return median(one.lines for one in self.functions)

    def too_large(self) -> list[str]:
        """A line for each limit that is broken."""
        found = [] if self.median <= MEDIAN_FUNCTION else [f"median function: {self.median} > {MEDIAN_FUNCTION}"]
        for kind, sizes, most in (
            ("function", self.functions, LONGEST_FUNCTION),
            ("module", self.modules, LONGEST_MODULE),
            ("folder", self.folders, MOST_MODULES),
        ):
            found += [f"{kind} {one.place}: {one.lines} > {most}" for one in sizes if one.lines > most]
        return found


def measure() -> House:
    """Functions in code lines, modules in all lines, folders in modules (``__init__`` not counted)."""
    sources = {path.relative_to(ROOT): path.read_text(encoding="utf-8") for path in modules()}
    folders = Counter(str(path.parent) for path in sources if not path.stem.startswith("__"))
    return House(
        functions=[one for path, source in sources.items() for one in functions(source, str(path))],
        modules=[Size(str(path), source.count("\n")) for path, source in sources.items()],
        folders=[Size(folder, count) for folder, count in folders.items()],
    )


def report(house: House) -> Iterator[str]:
    """The figures as lines for people."""
    yield f"{len(house.modules)} modules, {len(house.functions)} functions"
    yield f"median function {house.median:g} code lines (at most {MEDIAN_FUNCTION})"
    for title, sizes in (
        (f"longest functions, code lines (at most {LONGEST_FUNCTION})", house.functions),
        (f"longest modules, lines (at most {LONGEST_MODULE})", house.modules),
        (f"fullest folders, modules (at most {MOST_MODULES})", house.folders),
    ):
        yield title
        yield from (f"  {one.lines:4} {one.place}" for one in _largest(sizes))


def _largest(sizes: Iterable[Size], count: int = 5) -> list[Size]:
    return sorted(sizes, key=lambda one: (-one.lines, one.place))[:count]


def _span(node: ast.stmt) -> range:
    first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))])
    return range(first, (node.end_lineno or node.lineno) + 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail where something is too large")
    options = parser.parse_args()
    house = measure()
    broken = house.too_large()
    print(*report(house), *broken, sep="\n")
    return int(options.check and bool(broken))


if __name__ == "__main__":
    sys.exit(main())
