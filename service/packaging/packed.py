"""The service as it stands in a bento that `consilium bento` built: what to serve lies beside the packages.

BentoML sets a bento's environment variables in its image alone, not where `bentoml serve` runs it from a store.
`CONSILIUM_MODEL` still names another model.
"""

from __future__ import annotations

import os
from pathlib import Path

from service.packaging.bento_contents import source
from service.settings import PREFIX

os.environ.setdefault(f"{PREFIX}MODEL", source(Path(__file__).resolve().parents[2]))

# After the environment: the service may read its settings as soon as it is imported.
from service.app.service import Consilium

__all__ = ["Consilium"]
