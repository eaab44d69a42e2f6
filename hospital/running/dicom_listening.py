"""The DICOM listener as a part of the gateway."""

from __future__ import annotations

import asyncio

from hospital.dicom.reception import Receiver
from hospital.dicom.storage_scp import StorageScp
from hospital.running.gateway_metrics import CountedEvents


class DicomPart:
    """The `hospital.running.parts.Part` of a `StorageScp`.

    Parameters
    ----------
    receiver : Receiver
        The listener's.
    """

    def __init__(self, scp: StorageScp, receiver: Receiver, ae_title: str) -> None:
        self._scp, self._receiver, self._ae_title = scp, receiver, ae_title

    @property
    def listening(self) -> str:
        """Where it listens; to be asked once it does."""
        return f"dicom {self._ae_title} port {self._scp.port}"

    async def start(self) -> None:
        """Listen. Raises `InputError` where its address is in use."""
        await asyncio.to_thread(self._scp.start)

    async def stop(self) -> None:
        """Take nothing new; what is not acknowledged will be sent again."""
        await asyncio.to_thread(self._scp.stop)

    def count(self, events: CountedEvents) -> None:
        """Show its counts among the metrics."""
        events.add(
            "consilium_gateway_dicom_objects",
            "DICOM objects by what became of them, by C-STORE, STOW-RS and WADO-RS",
            ("fate",),
            self._receiver.counts,
        )
        events.add(
            "consilium_gateway_dicom_refusals",
            "Connections and associations that were refused or aborted, by the reason",
            ("reason",),
            self._scp.refusals,
        )
