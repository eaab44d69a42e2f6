"""The digest of a revision: of everything that an answer depends on.

Equal records asked of the same model are the same revision, however often they arrive: the UIDs and identifiers of its
results follow from the digest, and so does the service's Idempotency-Key, so that what is done again is done once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from hospital.store.received import ReceivedInstance
from hospital.store.state import Revision

_AFTER = "after"
"""The revision that one follows whose records are those of an earlier one."""


def revision_sources(
    images: Sequence[ReceivedInstance], records: Mapping[str, Any], model_digest: str
) -> dict[str, object]:
    """What an answer depends on.

    Parameters
    ----------
    images : sequence of ReceivedInstance
        In any order; each counts by its SOP Instance UID and the digest of its data set.
    records : mapping
        The values, notes and other records of the request, as JSON. Of these, only digests are in what is returned.
    model_digest : str
        Of the model's manifest.
    """
    return {
        "instances": sorted([image.sop_instance, image.digest] for image in images),
        "records": {name: _digest(record) for name, record in sorted(records.items())},
        "model": model_digest,
    }


def read_images(sources: Mapping[str, Any]) -> frozenset[str]:
    """SOP Instance UIDs in `revision_sources`."""
    return frozenset(uid for uid, _ in sources["instances"])


def revision_digest(sources: Mapping[str, object]) -> str:
    """SHA-256, in hex, of `revision_sources`."""
    return _digest(sources)


def next_sources(base: Mapping[str, object], answered: Sequence[Revision]) -> dict[str, object] | None:
    """The sources of the revision that follows those that were `answered`, the last one last; None: nothing is new.

    A state that comes back, because a correction was taken back, is a revision of its own: what was delivered last
    is of another one. So is one of which the answer was withdrawn.
    """
    former = [{name: value for name, value in one.sources.items() if name != _AFTER} for one in answered]
    if former and former[-1] == base and not answered[-1].withdrawn:
        return None
    return {**base, _AFTER: answered[-1].revision} if base in former else dict(base)


def idempotency_key(revision: str, refused: int = 0, attempt: int = 0) -> str:
    """Under which the service knows a request again.

    Parameters
    ----------
    refused : int
        Records that were left out because the service had refused them.
    attempt : int
        How often the service failed at the very same request: it repeats the failure for the same key.
    """
    return f"revision-{revision}-{refused}-{attempt}"


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
