"""The installed modalities by name: the built-in ones, then those of entry points in the order of their names.

Third parties add one by an entry point of the group ``consilium.modalities`` that names a `Modality`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from itertools import combinations
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from consilium.domain.errors import InputError
from consilium.domain.variables import BUILT_IN, VariableTable
from consilium.formats.limits import Limits, check_bytes
from consilium.formats.time_zone import TimeZone, site_zone
from consilium.modalities.modality import FileInput, JsonInput, Limit, Modality, ReadingContext
from consilium.system.installed import by_name, load, of_entry_points

Input = TypeVar("Input", JsonInput, FileInput)

RESERVED = frozenset({"patient", "reference_time", "caller_reference", "findings", "level", "count", "request"})
"""Keys of requests that no modality may take."""
GROUP = "consilium.modalities"
_BUILT_IN = (
    "consilium.modalities.image:MODALITY",
    "consilium.modalities.text:MODALITY",
    "consilium.modalities.observations:MODALITY",
    "consilium.modalities.ecg:MODALITY",
    "consilium.modalities.volume:MODALITY",
    "consilium.modalities.audio:MODALITY",
)


@cache
def modalities() -> Mapping[str, Modality]:
    """Every installed modality by name, in the order in which subsets and tables name them.

    Raises
    ------
    ValueError
        Where two have the same name.
    """
    found: dict[str, Modality] = by_name([*map(load, _BUILT_IN), *of_entry_points(GROUP)], "modalities are called")
    _check_names(found.values())
    return MappingProxyType(found)


@cache
def json_inputs() -> Mapping[str, JsonInput]:
    """The lists of records in a request's JSON, by key."""
    return _inputs(JsonInput)


@cache
def file_inputs() -> Mapping[str, FileInput]:
    """The files beside a request's JSON, by name of the form's part."""
    return _inputs(FileInput)


def file_content(name: str, path: Path, most: int | None = None) -> bytes:
    """What is sent of the file at `path` as `name`, an input of files.

    Parameters
    ----------
    most : int or None
        Bytes; None: what cohorts and the command line may hold.

    Raises
    ------
    TooLarge
    OSError
        Where it cannot be read.
    """
    given = file_inputs()[name]
    most = given.most_bytes.most if most is None else most
    if given.pack:
        packed: bytes = load(given.pack)(path, most)
        return packed
    check_bytes(path.stat().st_size, most)
    return path.read_bytes()


def _check_names(declared: Iterable[Modality]) -> None:
    """Raise `ValueError` where two modalities take one field or limit, or one takes a key that requests have."""
    fields = [given.name for modality in declared for given in modality.inputs]
    limits = [limit.name for modality in declared for limit in modality.all_limits]
    for names in (fields, limits):
        twice = sorted({name for name in names if names.count(name) > 1 or name in RESERVED})
        if twice:
            raise ValueError(f"{', '.join(twice)}: must be declared by one modality, and not be of {sorted(RESERVED)}")


def modality_of(field: str) -> Modality:
    """The modality whose records are sent as `field`."""
    return next(one for one in modalities().values() if any(given.name == field for given in one.inputs))


@cache
def declared_limits() -> tuple[Limit, ...]:
    """Every limit that a modality declares."""
    return tuple(limit for modality in modalities().values() for limit in modality.all_limits)


@cache
def default_limits() -> Limits:
    """What cohorts and the command line may hold."""
    return Limits({limit.name: limit.most for limit in declared_limits()})


def default_context(
    variables: VariableTable = BUILT_IN, limits: Limits | None = None, zone: TimeZone | None = None
) -> ReadingContext:
    """What records are read with: `default_limits` and the site's zone unless given."""
    return ReadingContext(limits or default_limits(), zone or site_zone(), variables)


def _inputs(kind: type[Input]) -> Mapping[str, Input]:
    found = [given for one in modalities().values() for given in one.inputs if isinstance(given, kind)]
    return MappingProxyType({given.name: given for given in found})


def any_record() -> str:
    """One record of any modality, in a sentence: ``an image, a note or an observation``."""
    kinds = [with_article(modality.record) for modality in modalities().values()]
    return f"{', '.join(kinds[:-1])} or {kinds[-1]}"


def with_article(noun: str) -> str:
    """``an image``, ``a note``."""
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


def modality_names() -> tuple[str, ...]:
    """The names of `modalities`, in order."""
    return tuple(modalities())


def find_modality(name: str, field: str = "modality") -> Modality:
    """The modality called `name`.

    Raises
    ------
    InputError
        Where none is installed under that name.
    """
    try:
        return modalities()[name]
    except KeyError:
        raise InputError(field, name, f"must be one of {', '.join(modalities())}") from None


def in_order(some: Iterable[str]) -> tuple[str, ...]:
    """`some` names, each once, in the order of `modalities`.

    Raises
    ------
    InputError
        Where one of them is not installed.
    """
    chosen = {name: find_modality(name) for name in some}
    return tuple(name for name in modalities() if name in chosen)


def nonempty_subsets(some: Iterable[str]) -> list[frozenset[str]]:
    """Every non-empty subset of the modalities `some`, smallest first, in the order of `modalities`.

    Raises
    ------
    InputError
        Where one of them is not installed.
    """
    present = in_order(some)
    return [frozenset(chosen) for size in range(1, len(present) + 1) for chosen in combinations(present, size)]


def subset_key(subset: Iterable[str]) -> str:
    """Name of a modality subset in tables and files: ``image+observations``; the empty subset is ``none``.

    Raises
    ------
    InputError
        Where one of the modalities is not installed.
    """
    return "+".join(in_order(subset)) or "none"
