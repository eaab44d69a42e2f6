"""What a source has of a study: asked by DIMSE or DICOMweb, whichever the configuration knows of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from consilium.domain.errors import ConsiliumError

logger = logging.getLogger("consilium.gateway")

ListInstances = Callable[[str], frozenset[str]]
"""SOP Instance UIDs of a study, by its UID; blocks, and raises a `ConsiliumError` where there is no answer."""


@dataclass(frozen=True, slots=True)
class ConfiguredSources:
    """The sources that can be asked, by their names in the configuration.

    Attributes
    ----------
    asked : callable
        Is told the source and the study of each question, on a thread.
    """

    listings: Mapping[str, ListInstances]
    asked: Callable[[str, str], None] = lambda *_: None

    async def instances(self, source: str, study: str) -> frozenset[str] | None:
        """See `hospital.studies.study_walk.SourceListing`."""
        listing = self.listings.get(source)
        if listing is None:
            return None
        try:
            found = await asyncio.to_thread(listing, study)
            await asyncio.to_thread(self.asked, source, study)
        except ConsiliumError as error:
            logger.warning("%s does not say what it has of a study: %s", source, error)
            return None
        return found
