"""Associations by TLS, in which the sender shows a certificate."""

from __future__ import annotations

import socket
import ssl
from dataclasses import replace
from pathlib import Path
from time import monotonic

import pytest

from hospital.dicom.acceptor import AssociationLimits
from tests.dcmtk import needs_dcmtk, run
from tests.hospital.certificates import Authority, Identity
from tests.hospital.dicom.listening import OURS, PEER, Listening, eventually, listening
from tests.hospital.dicom.samples import part10, radiograph
from tests.patience import PATIENCE_S


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "certificates")


def _echoes(listener: Listening, context: ssl.SSLContext | None) -> bool:
    arguments = None if context is None else (context, "127.0.0.1")
    association = listener.associate(tls_args=arguments)
    answered = association.is_established and association.send_c_echo().Status == 0
    association.release()
    return answered


def test_a_peer_is_its_title_its_address_and_its_certificate(tmp_path: Path, authority: Authority) -> None:
    sender, other = authority.identity("sender"), authority.identity("other")
    peer = replace(PEER, fingerprint=sender.fingerprint)
    with listening(tmp_path / "files", (peer,), tls=authority.identity("gateway").server()) as listener:
        assert _echoes(listener, sender.client())
        assert not _echoes(listener, other.client())
        assert eventually(lambda: listener.scp.refusals == {"calling": 1})


def test_without_a_certificate_of_the_authority_there_is_no_association(tmp_path: Path, authority: Authority) -> None:
    stranger = Authority(tmp_path / "elsewhere").identity("sender")
    unverified = ssl.create_default_context(cafile=str(authority.certificate))
    foreign = stranger.client()
    foreign.load_verify_locations(authority.certificate)
    with listening(tmp_path / "files", tls=authority.identity("gateway").server()) as listener:
        assert not _echoes(listener, unverified)
        assert not _echoes(listener, foreign)
        assert not _echoes(listener, None)
        assert eventually(lambda: listener.scp.refusals == {"TLS": 3})
        assert _echoes(listener, authority.identity("sender").client())


def test_a_handshake_that_stands_still_holds_up_nobody_and_ends(tmp_path: Path, authority: Authority) -> None:
    tls, limits = authority.identity("gateway").server(), AssociationLimits(read_s=6)
    with listening(tmp_path / "files", tls=tls, limits=limits) as listener:
        start = monotonic()
        with socket.create_connection(("127.0.0.1", listener.port), timeout=PATIENCE_S) as slow:
            slow.sendall(b"\x16\x03\x01")
            assert _echoes(listener, authority.identity("sender").client())
            assert slow.recv(1) == b""
        assert monotonic() - start >= 6
        assert eventually(lambda: listener.scp.refusals == {"TLS": 1})


@needs_dcmtk
def test_dcmtk_stores_by_tls_with_its_certificate_alone(tmp_path: Path, authority: Authority) -> None:
    sender = authority.identity("sender")
    (tmp_path / "a.dcm").write_bytes(part10(radiograph(1)))
    with listening(tmp_path / "files", tls=authority.identity("gateway").server()) as listener:
        assert _storescu(tmp_path / "a.dcm", listener.port, sender) == 0
        assert len(listener.inbox.instances) == 1
        assert _storescu(tmp_path / "a.dcm", listener.port, None) != 0


def _storescu(file: Path, port: int, identity: Identity | None) -> int:
    tls = [] if identity is None else ["+tls", str(identity.key), str(identity.certificate)]
    trust = [] if identity is None else ["+cf", str(identity.authority)]
    return run("storescu", *tls, *trust, "-aet", PEER.ae_title, "-aec", OURS, "127.0.0.1", port, file)
