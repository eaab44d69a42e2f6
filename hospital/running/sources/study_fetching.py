"""Whole studies from a system that may be asked, by C-MOVE or WADO-RS."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from consilium.domain.errors import ConsiliumError
from hospital.dicom.query_retrieve import Moved
from hospital.store.gateway_store import Store

logger = logging.getLogger("consilium.gateway")


class Incomplete(ConsiliumError):
    """A source did not send all that it has of a study."""


@dataclass(frozen=True, slots=True)
class StudyFetching:
    """One source; to be called on a thread.

    Attributes
    ----------
    move : callable
        Has the source send a study; returns when it has.
    instances : callable
        SOP Instance UIDs that the source has of a study.
    """

    source: str
    move: Callable[[str], Moved]
    instances: Callable[[str], frozenset[str]]

    def fetch(self, store: Store, study: str) -> None:
        """Have everything in `store` that the source has of a study; what is there already is not fetched.

        Raises
        ------
        ConsiliumError
            The source does not answer, has nothing of the study, or did not send all of it.
        """
        listed = self.instances(study)
        if not listed:
            raise Incomplete(f"{self.source} has nothing of the study")
        if not listed <= _here(store, study):
            moved = self.move(study)
            missing = listed - _here(store, study)
            if missing:
                rule = f"{len(missing)} of {len(listed)} objects did not arrive, {moved.failed} failed"
                raise Incomplete(f"{self.source}: {rule}")


def _here(store: Store, study: str) -> frozenset[str]:
    return frozenset(one.sop_instance for one in store.records.instances(study))
