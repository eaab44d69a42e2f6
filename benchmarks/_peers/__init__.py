"""The same model behind other servers, as their users would put it there; `benchmarks/service_throughput.py` asks them.

Each takes one study as JSON: ``images``, a list of base64 texts, and the records of `/v1/diagnose` beside it. None has
limits, an audit record, tokens or a decoder that a hostile file cannot harm.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import torch

from consilium.domain.study import Study
from consilium.inference.diagnostician import Diagnostician
from consilium.ingest.study_records import study_from_records
from consilium.modalities.image.records import read_image

MODEL, PORT, BATCH = "PEER_MODEL", "PEER_PORT", "PEER_BATCH"
"""Variables of the environment: the model's folder, where to listen, the most studies in one batch."""


def load() -> Diagnostician:
    """The model of the folder in ``PEER_MODEL``, on one thread."""
    torch.set_num_threads(1)
    return Diagnostician.load(Path(os.environ[MODEL]), "cpu")


def read_study(asked: dict[str, Any]) -> Study:
    images = [read_image(base64.b64decode(image)) for image in asked["images"]]
    return study_from_records(
        images=images, notes=asked["notes"], observations=asked["observations"], patient=asked["patient"]
    )
