"""Words of DICOM files that an archive keeps: fetched by WADO-RS, decoded as when the model read them, and compared.

What is shown is what the model read, or nothing: an archive may have changed, replaced or moved an instance meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from consilium.domain.errors import InputError
from consilium.ingest.dicomweb import ArchiveTooSlow, DicomWeb, DicomWebError, FoundInstance, InstanceMissing
from consilium.modalities.presentation import Viewed
from service.http.multipart import FileBytes
from service.http.problems import NotFromArchive
from service.settings import Settings
from service.studies.stored_contents import words_digest

logger = logging.getLogger("consilium.service")

_AT_ONCE = 4
"""Images that are fetched at once: each may be as large as a request, and lies in memory."""
_UIDS = _STUDY, _SERIES, _SOP = "study_instance_uid", "series_instance_uid", "sop_instance_uid"


class ArchivePixels:
    """The archive of ``CONSILIUM_STUDIES_PACS_URL``; of a service without one every image is refused.

    Parameters
    ----------
    view : callable
        (name, file) → what readers see of it, as when it was stored.
    """

    def __init__(self, settings: Settings, view: Callable[[str, FileBytes], Awaitable[Viewed]]) -> None:
        self._seconds = settings.studies_pacs_timeout_s
        self._view = view
        self._places = asyncio.Semaphore(_AT_ONCE)
        token = settings.studies_pacs_token
        self._archive: DicomWeb | None = None
        if settings.studies_pacs_url is not None:
            self._archive = DicomWeb(
                settings.studies_pacs_url,
                None if token is None else token.get_secret_value(),
                most_bytes=settings.max_body_bytes,
                timeout=self._seconds,
                seconds=self._seconds,
            )

    def close(self) -> None:
        """Close what is open to the archive."""
        if self._archive is not None:
            self._archive.close()

    async def words(self, name: str, view: Mapping[str, Any], patient_digest: str | None) -> bytes:
        """The words of a file of those called `name`, the ones that the model read.

        Parameters
        ----------
        view : mapping
            As it was stored: by its UIDs the archive is asked, and with its digest the words are compared.
        patient_digest : str or None
            SHA-256 of the id of the study's patient.

        Raises
        ------
        NotFromArchive
        Unavailable
            Where no file can be decoded now.
        """
        async with self._places:
            data = await self._fetched(FoundInstance(view[_STUDY], view[_SERIES], view[_SOP], kind=""))
            try:
                found = await self._view(name, FileBytes((data,)))
            except InputError:
                raise NotFromArchive(
                    "archive-unavailable", "What the archive sent cannot be read.", HTTPStatus.BAD_GATEWAY
                ) from None
        of = found.record.patient_digest
        if patient_digest is not None and of is not None and of != patient_digest:
            raise NotFromArchive(
                "other-patient", "The archive has this image under another patient now.", HTTPStatus.CONFLICT
            )
        if words_digest(found) != view["words_digest"] or any(getattr(found.view, uid) != view[uid] for uid in _UIDS):
            raise NotFromArchive(
                "other-pixels", "What the archive has is not the image that the model read.", HTTPStatus.CONFLICT
            )
        return found.words.tobytes()

    async def _fetched(self, instance: FoundInstance) -> bytes:
        if self._archive is None:
            raise NotFromArchive(
                "archive-unavailable",
                "No archive is configured: see CONSILIUM_STUDIES_PACS_URL.",
                HTTPStatus.BAD_GATEWAY,
            )
        try:
            # The client notices a silent archive at the end of its own wait; the reader is told in time.
            async with asyncio.timeout(self._seconds):
                return await asyncio.to_thread(self._archive.retrieve, instance)
        except InstanceMissing:
            raise NotFromArchive(
                "not-in-archive", "The archive does not have this image.", HTTPStatus.NOT_FOUND
            ) from None
        except (ArchiveTooSlow, TimeoutError):
            logger.warning("the archive took more than %g s for an image", self._seconds)
            raise NotFromArchive(
                "archive-timeout", "The archive took too long to send this image.", HTTPStatus.GATEWAY_TIMEOUT
            ) from None
        except DicomWebError as error:
            logger.warning("an image was not fetched: %s", error)
            raise NotFromArchive(
                "archive-unavailable", "The archive cannot be asked for this image.", HTTPStatus.BAD_GATEWAY
            ) from None
