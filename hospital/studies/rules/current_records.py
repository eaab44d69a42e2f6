"""Of all versions of a value, a note or an object, the one that counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hospital.store.received import (
    ReceivedInstance,
    ReceivedNote,
    ReceivedObservation,
    ReceivedOrder,
    ReceivedRejection,
    Status,
)

_USED = (Status.FINAL, Status.CORRECTED)
_RETENTION_EXPIRED = "113039"


def current_observations(versions: Iterable[ReceivedObservation]) -> list[ReceivedObservation]:
    """Of each value its latest version that is final; none of a value that was taken back.

    A preliminary version replaces nothing: what was final stays so until it is corrected.
    """
    latest: dict[tuple[str, str], ReceivedObservation] = {}
    for version in sorted(versions, key=lambda one: (one.issued, one.version)):
        if version.status is not Status.PRELIMINARY:
            latest[version.source, version.key] = version
    return [version for version in latest.values() if version.status in _USED]


def current_notes(versions: Iterable[ReceivedNote]) -> list[ReceivedNote]:
    """The same of notes."""
    latest: dict[tuple[str, str], ReceivedNote] = {}
    for version in sorted(versions, key=lambda one: (one.issued, one.version)):
        if version.status is not Status.PRELIMINARY:
            latest[version.source, version.key] = version
    return [version for version in latest.values() if version.status in _USED]


def current_orders(versions: Iterable[ReceivedOrder]) -> list[ReceivedOrder]:
    """Of each order its latest version; none of a cancelled one."""
    latest: dict[tuple[str, str], ReceivedOrder] = {}
    for version in sorted(versions, key=lambda one: one.time):
        key = version.placer or version.filler or (version.accession.value if version.accession else version.study)
        latest[version.source, key or ""] = version
    return [version for version in latest.values() if not version.cancelled]


@dataclass(frozen=True, slots=True)
class CurrentInstances:
    """The objects of a study that count.

    Attributes
    ----------
    used : tuple of ReceivedInstance
        One of each SOP Instance UID, by UID.
    rejected : int
        Left out because a rejection note names them.
    changed : int
        Of which another version had come before.
    faulty : frozenset of str
        SOP Instance UIDs that were rejected for what they are, not because the time to keep them was over.
    """

    used: tuple[ReceivedInstance, ...]
    rejected: int = 0
    changed: int = 0
    faulty: frozenset[str] = frozenset()


def current_instances(
    received: Sequence[ReceivedInstance], rejections: Sequence[ReceivedRejection] = ()
) -> CurrentInstances:
    """Of each object its last version, but for results of our own and for what a rejection note names.

    A rejection note may come before the objects that it names.
    """
    latest: dict[str, ReceivedInstance] = {}
    digests: dict[str, set[str]] = {}
    for instance in sorted(received, key=lambda one: (one.received, one.digest)):
        if not instance.ours:
            latest[instance.sop_instance] = instance
            digests.setdefault(instance.sop_instance, set()).add(instance.digest)
    rejected = {uid for rejection in rejections for uid in rejection.instances}
    used = tuple(latest[uid] for uid in sorted(latest) if uid not in rejected)
    changed = sum(len(digests[instance.sop_instance]) > 1 for instance in used)
    faults = (one for one in rejections if one.code.value != _RETENTION_EXPIRED)
    faulty = frozenset(uid for rejection in faults for uid in rejection.instances)
    return CurrentInstances(used, len(latest) - len(used), changed, faulty)
