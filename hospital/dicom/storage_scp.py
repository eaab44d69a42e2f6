"""What the hospital's senders call: C-STORE, C-ECHO, N-services. What is acknowledged is on the disk and in a row.

Source: PS3.4 B.2 (storage), PS3.7 9.1.1 (C-STORE, its statuses), PS3.8 9.3.4 (rejection).
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pynetdicom import AE, build_context, evt
from pynetdicom.presentation import PresentationContext

from consilium.domain.errors import InputError
from hospital.dicom.acceptor import AssociationLimits, AssociationServer
from hospital.dicom.incoming_messages import ReceivedDataSet
from hospital.dicom.notices.commitments import Commitments
from hospital.dicom.notices.procedure_steps import ProcedureSteps
from hospital.dicom.peers import Caller, DicomPeer, Refusal, admitted, refusal_reason
from hospital.dicom.quiet_library import quiet_library
from hospital.dicom.reception import IMPLEMENTATION_CLASS, Mismatch, Receiver
from hospital.dicom.storage_classes import COMMITMENT, accepted_syntaxes
from hospital.store.holds import Holds
from hospital.store.received import StoreFull, StoreUnavailable

SUCCESS, PROCESSING_FAILURE, MISMATCH, NOT_UNDERSTOOD = 0x0000, 0x0110, 0xA900, 0xC000
_NOT_NOW = frozenset({"full", "connections", "StoreFull", "StoreUnavailable", "OSError"})
"""Why somebody who may call is refused for a while."""
_LOG = logging.getLogger("consilium.gateway")


@dataclass(frozen=True, slots=True)
class StorageListener:
    """Where and for whom the gateway listens.

    Attributes
    ----------
    tls : ssl.SSLContext, optional
        Of the server's side; it decides whether a client must show a certificate.
    has_room : callable
        Whether the store takes objects now; while it does not, associations are rejected.
    alarm : callable
        Is told why, and from which address where it is known, somebody was refused who may not call or sent no DICOM.
    """

    ae_title: str
    address: str
    port: int
    peers: Sequence[DicomPeer]
    limits: AssociationLimits = field(default_factory=AssociationLimits)
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    has_room: Callable[[], bool] = lambda: True
    alarm: Callable[[str, str | None], None] = lambda *_: None


class StorageScp:
    """The listening AE; to be started and stopped once.

    Attributes
    ----------
    refusals : Counter
        Connections and associations that were refused or aborted, by the reason.
    """

    def __init__(
        self,
        listener: StorageListener,
        receiver: Receiver,
        holds: Holds,
        commitments: Commitments | None = None,
    ) -> None:
        self._commitments, self._steps = commitments or Commitments(), ProcedureSteps(receiver)
        self.refusals: Counter[str] = Counter()
        self._listener, self._receiver, self._holds = listener, receiver, holds
        self._server: AssociationServer | None = None

    @property
    def port(self) -> int:
        """The port that is listened at, also where 0 was asked for."""
        assert self._server is not None, "the listener is not started"
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to listen, in threads of its own.

        Raises
        ------
        InputError
            Where the address cannot be bound.
        """
        quiet_library()
        limits = self._listener.limits
        ae = AE(self._listener.ae_title)
        ae.implementation_class_uid = IMPLEMENTATION_CLASS
        ae.maximum_pdu_size, ae.maximum_associations = limits.pdu_bytes, limits.associations
        ae.acse_timeout, ae.dimse_timeout, ae.network_timeout = limits.read_s, limits.idle_s, limits.idle_s
        try:
            server = self._server = AssociationServer(
                ae,
                (self._listener.address, self._listener.port),
                [
                    (evt.EVT_REQUESTED, self._admit),
                    (evt.EVT_C_STORE, self._store),
                    (evt.EVT_N_EVENT_REPORT, self._commitments.answer),
                    (evt.EVT_N_CREATE, self._steps.created),
                    (evt.EVT_N_SET, self._steps.changed),
                ],
                tls=self._listener.tls,
                limits=limits,
                receiver=self._receiver,
                holds=self._holds,
                known=self._known,
                refused=self._refused,
            )
        except OSError as error:
            where = f"{self._listener.address}:{self._listener.port}"
            raise InputError("dicom.listen", where, f"must be free to listen at ({error.strerror})") from None
        threading.Thread(target=server.serve_forever, name="dicom-listener", daemon=True).start()

    def stop(self) -> None:
        """End listening, and abort what is open: what was not acknowledged will be sent again."""
        server, self._server = self._server, None
        if server is not None:
            associations = server.active_associations
            server.shutdown()
            for association in associations:
                association.abort()

    def _known(self, address: str) -> bool:
        return any(peer.calls_from(address) for peer in self._listener.peers)

    def _refused(self, reason: str, address: str | None = None, why: str | None = None) -> None:
        self.refusals[reason] += 1
        known = f"no peer calls from {address}" if reason == "address" else why
        _LOG.warning("a DICOM association was refused: %s", reason if known is None else f"{reason}: {known}")
        if reason not in _NOT_NOW:
            self._listener.alarm(reason, address)

    def _admit(self, event: evt.Event) -> None:
        """Reject the association, or offer what it asks for as far as it is taken."""
        association: Any = event.assoc
        request = association.requestor.primitive
        caller = Caller(
            request.called_ae_title.strip(),
            request.calling_ae_title.strip(),
            association.requestor.address_info.address,
            association.fingerprint,
        )
        peer = admitted(self._listener.peers, caller, self._listener.ae_title)
        if isinstance(peer, DicomPeer) and not self._listener.has_room():
            peer = Refusal.FULL
        if isinstance(peer, Refusal):
            why = refusal_reason(self._listener.peers, caller, self._listener.ae_title, peer)
            self._refused(peer.name.lower(), caller.address, why)
            association.acse.send_reject(*peer.value)
            association.is_rejected = True
            association.kill()
            return
        association.peer = peer
        association.acceptor.supported_contexts = _supported(request.presentation_context_definition_list)

    def _store(self, event: evt.Event) -> int:
        association: Any = event.assoc
        request: Any = event.request
        data_set = request.DataSet
        reception = data_set.reception if isinstance(data_set, ReceivedDataSet) else None
        if reception is None:
            return self._failed(NOT_UNDERSTOOD, "no data set")
        requested = (request.MoveOriginatorApplicationEntityTitle or "").strip() == self._listener.ae_title
        try:
            reception.finish(association.peer, requested=requested, hold=association.hold)
        except Mismatch:
            return self._failed(MISMATCH, "another instance")
        except InputError as error:
            return self._failed(NOT_UNDERSTOOD, f"{error.field}: {error.rule}")
        except (StoreFull, StoreUnavailable, OSError) as error:
            # At a status the sender would go on with the rest; its next association is rejected until there is room.
            self._refused(type(error).__name__)
            association.abort()
            return NOT_UNDERSTOOD
        except Exception as error:  # noqa: BLE001 - a bug of ours must not print what was received
            return self._failed(PROCESSING_FAILURE, type(error).__name__)
        finally:
            association.dimse.done(reception)
        return SUCCESS

    def _failed(self, status: int, reason: str) -> int:
        self._receiver.counts[reason] += 1
        _LOG.warning("a DICOM object was answered 0x%04X: %s", status, reason)
        return status


def _supported(asked: Sequence[PresentationContext]) -> list[PresentationContext]:
    offered: dict[str, list[Any]] = {}
    for context in asked:
        offered.setdefault(str(context.abstract_syntax), []).extend(context.transfer_syntax)
    accepted = ((one, accepted_syntaxes(one, syntaxes)) for one, syntaxes in offered.items())
    supported = [build_context(one, list(syntaxes)) for one, syntaxes in accepted if syntaxes]
    for context in supported:
        if context.abstract_syntax == COMMITMENT:
            context.scu_role, context.scp_role = False, True  # of the caller: the provider reports how it went
    return supported
