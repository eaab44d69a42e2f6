"""Where a service keeps its files unless its settings say otherwise: below ``CONSILIUM_HOME``."""

from __future__ import annotations

import os
from pathlib import Path

from consilium.system.environment import home_folder


def keys_path() -> Path:
    """The file of API keys: ``CONSILIUM_KEYS``, or ``keys.json`` in ``CONSILIUM_HOME`` (``var`` unless set)."""
    given = os.environ.get("CONSILIUM_KEYS")
    return Path(given) if given else home_folder() / "keys.json"
