"""A form becomes a Study: images in the decode pool's processes, the rest as `consilium.ingest` reads it."""

from __future__ import annotations

import asyncio
import logging

from consilium.api.schemas import DiagnoseRequest
from consilium.domain.errors import DecoderUnavailable
from consilium.domain.study import Study
from consilium.domain.variables import BUILT_IN, VariableTable
from consilium.formats.limits import Limits
from consilium.ingest.decode_pool import DecodePool
from consilium.ingest.study_records import study_from_records
from consilium.modalities.image.image_record import Image
from service.http.multipart import IMAGES
from service.http.problems import Unavailable
from service.settings import Settings

logger = logging.getLogger("consilium.service")


class Intake:
    """Decodes and reads what callers send. `start` before anything else, `stop` at the end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._limits = Limits(
            image_bytes=settings.max_image_bytes,
            image_pixels=settings.max_image_pixels,
            notes=settings.max_notes,
            note_characters=settings.max_note_characters,
            observations=settings.max_observations,
        )
        self._pool: DecodePool | None = None

    async def start(self) -> None:
        """Start the decode pool."""
        self._pool = await asyncio.to_thread(self._new_pool)

    def _new_pool(self) -> DecodePool:
        settings = self._settings
        return DecodePool(
            settings.decode_workers,
            seconds=settings.decode_timeout_s,
            memory_bytes=settings.decode_memory_bytes,
            limits=self._limits,
        )

    async def stop(self) -> None:
        """Kill the decoders."""
        if self._pool is not None:
            await asyncio.to_thread(self._pool.close)
            self._pool = None

    async def decode(self, files: tuple[bytes, ...]) -> list[Image]:
        """The images of one request. Where one is refused, or the caller is cancelled, the others are not decoded.

        Raises
        ------
        InputError
            With the field ``images[i]``.
        Unavailable
            Where no decoder lives long enough: the images can be sent again.
        """
        pool = self._pool
        if pool is None:
            raise RuntimeError("the intake was not started")
        futures = [asyncio.wrap_future(pool.submit(data, f"{IMAGES}[{number}]")) for number, data in enumerate(files)]
        try:
            return [await future for future in futures]
        except DecoderUnavailable as error:
            logger.error("%s", error)
            raise Unavailable("No image can be decoded now.", self._settings.retry_after_s) from None
        finally:
            for future in futures:
                future.cancel()

    def study(self, images: list[Image], request: DiagnoseRequest, variables: VariableTable = BUILT_IN) -> Study:
        """The Study of one request, read with a model's `variables`. Units take time: not for the event loop.

        Raises
        ------
        InputError
        """
        return study_from_records(
            images,
            [note.model_dump() for note in request.notes],
            [observation.model_dump() for observation in request.observations],
            None if request.patient is None else request.patient.model_dump(),
            request.reference_time,
            variables=variables,
            limits=self._limits,
        )
