"""The option that names gateway.yaml, and the store that it describes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consilium.domain.errors import InputError

if TYPE_CHECKING:
    from hospital.store.gateway_store import Store

Settings = Annotated[Path, typer.Option("--settings", "-s", metavar="FILE", help="The gateway's settings.")]
DEFAULT = Path("gateway.yaml")
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the latest first.")]


@contextmanager
def gateway_store(path: Path) -> Iterator[Store]:
    """The store of a gateway, which may run meanwhile.

    Raises
    ------
    InputError
        There is none yet, or its key is lost or another one.
    """
    from hospital.configuration.settings_file import read_settings
    from hospital.running.gateway import store_location
    from hospital.store.gateway_store import Store, refuse_other_key

    location = store_location(read_settings(path))
    refuse_other_key(location)
    if not location.key_file.exists():
        rule = "must be the key of a store: there is none yet, `consilium gateway run` makes it"
        raise InputError("store.key_file", str(location.key_file), rule)
    store = Store(location)
    try:
        yield store
    finally:
        store.database.close()
