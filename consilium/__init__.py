"""What a diagnosis is made of.

Records become a `Study` (`consilium.ingest`), a `Study` a `Batch` (`consilium.preprocessing.collate`), a `Batch` tokens
(`consilium.modalities`), tokens one joint state (`consilium.network.fusion`), the state logits
(`consilium.network.diagnosis_model`), logits a `Diagnosis` (`consilium.calibration`).
`consilium.inference.diagnostician` walks the whole way; open it first.

    from consilium import Client, Diagnostician

imports each when it is named: `Client` needs no more than ``pip install consilium``, `Diagnostician` the extra
``model``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from consilium.api.client import AsyncClient, Client
    from consilium.inference.diagnostician import Diagnostician

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "Diagnostician", "__version__"]

_HOMES = {
    "AsyncClient": "consilium.api.client",
    "Client": "consilium.api.client",
    "Diagnostician": "consilium.inference.diagnostician",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
