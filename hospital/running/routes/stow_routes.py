"""STOW-RS among the gateway's HTTP routes, for the senders that gateway.yaml names."""

from __future__ import annotations

from hashlib import sha256

from starlette.routing import BaseRoute, Mount

from hospital.configuration.gateway_settings import GatewaySettings
from hospital.dicom.peers import DicomPeer
from hospital.dicom.reception import Receiver
from hospital.dicom.web.stow_in import StowIn, WebSender, sender_by_token
from hospital.store.gateway_store import Store


def stow_routes(settings: GatewaySettings, store: Store, receiver: Receiver) -> list[BaseRoute]:
    """``/dicom-web/studies`` for the senders of `http`; nothing where there is none.

    Raises
    ------
    InputError
        A token cannot be read.
    """
    senders = [
        WebSender(
            DicomPeer(name, "", patient_issuer=given.patient_issuer, accession_issuer=given.accession_issuer),
            sha256(given.token.read(f"http.senders.{name}.token").encode()).hexdigest(),
        )
        for name, given in settings.http.senders.items()
    ]
    if not senders:
        return []
    stow = StowIn(receiver, store.holds, sender_by_token(senders), lambda: store.inbox.has_room)
    return [Mount("/dicom-web", routes=stow.routes())]
