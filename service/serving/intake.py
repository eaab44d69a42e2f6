"""A form becomes a Study: files in the decode pool's processes, the rest as `consilium.ingest` reads it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias

from consilium.api.schemas import DiagnoseRequest
from consilium.domain.errors import DecoderUnavailable
from consilium.domain.study import Study
from consilium.domain.variables import BUILT_IN, VariableTable
from consilium.ingest.decode_pool import DecodePool
from consilium.ingest.study_records import study_from_records
from consilium.modalities.converter import Converter
from consilium.modalities.presentation import Viewed, file_viewings
from service.http.multipart import FileBytes
from service.http.problems import Unavailable
from service.settings import Settings

Files: TypeAlias = dict[str, Any]
"""The decoded files of one request, a list of records by the name under which they are sent: ``images``."""

logger = logging.getLogger("consilium.service")


class Intake:
    """Decodes and reads what callers send. `start` before anything else, `stop` at the end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._limits = settings.limits
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

    async def decode(
        self, files: Mapping[str, tuple[FileBytes, ...]], converters: Mapping[str, Sequence[Converter]]
    ) -> Files:
        """The files of one request, decoded. Where one is refused, or the caller cancelled, the others are not decoded.

        Those of a name in `converters` are condensed to the arrays of these.

        Raises
        ------
        InputError
            With the field ``images[i]``.
        Unavailable
            Where no decoder lives long enough: the files can be sent again.
        """
        return await self._decoded(files, converters, {})

    async def decode_viewed(
        self, files: Mapping[str, tuple[FileBytes, ...]], converters: Mapping[str, Sequence[Converter]]
    ) -> tuple[Files, dict[str, list[Viewed]]]:
        """The same, and beside it what readers see of the files of each name that can be seen."""
        readers = {name: viewing.read for name, viewing in file_viewings().items()}
        decoded = await self._decoded(files, converters, readers)
        viewed = {name: found for name, found in decoded.items() if name in readers}
        return decoded | {name: [one.record for one in found] for name, found in viewed.items()}, viewed

    async def _decoded(
        self,
        files: Mapping[str, tuple[FileBytes, ...]],
        converters: Mapping[str, Sequence[Converter]],
        viewings: Mapping[str, str],
    ) -> Files:
        pool = self._pool
        if pool is None:
            raise RuntimeError("the intake was not started")

        def submitted(name: str, number: int, data: FileBytes) -> asyncio.Future[Any]:
            field, viewing = f"{name}[{number}]", viewings.get(name, "")
            return asyncio.wrap_future(pool.submit(data.pieces, name, field, converters.get(name, ()), viewing=viewing))

        futures = {
            name: [submitted(name, number, data) for number, data in enumerate(contents)]
            for name, contents in files.items()
        }
        try:
            return {name: [await future for future in waiting] for name, waiting in futures.items()}
        except DecoderUnavailable as error:
            logger.error("%s", error)
            raise Unavailable("No file can be decoded now.", self._settings.retry_after_s) from None
        finally:
            for future in chain.from_iterable(futures.values()):
                future.cancel()

    def study(self, files: Files, request: DiagnoseRequest, variables: VariableTable = BUILT_IN) -> Study:
        """The Study of one request, read with a model's `variables`. Units take time: not for the event loop.

        Raises
        ------
        InputError
        """
        return study_from_records(
            **files,
            **request.records,
            variables=variables,
            limits=self._limits,
        )
