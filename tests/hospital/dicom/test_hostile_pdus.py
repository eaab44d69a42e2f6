"""What no library sends: cut, slow, endless and broken PDUs end their own connection, and nobody else's."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from time import monotonic, sleep

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consilium.system.memory import peak_memory
from hospital.dicom.acceptor import AssociationLimits
from hospital.dicom.reception import ObjectLimits
from tests.hospital.dicom.listening import Listening, eventually, listening
from tests.hospital.dicom.raw import (
    C_ECHO_RQ,
    C_STORE_RQ,
    N_EVENT_REPORT_RQ,
    VERIFICATION,
    answer,
    associate,
    command,
    connect,
    data,
    ended,
    pdu,
)
from tests.hospital.dicom.samples import radiograph
from tests.patience import PATIENCE_S

_SOON = AssociationLimits(associations=40, idle_s=6, read_s=3)


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    with listening(tmp_path_factory.mktemp("files"), limits=_SOON, object_limits=ObjectLimits(seconds=3)) as running:
        yield running


def _others_are_served(listener: Listening, number: int = 1) -> bool:
    return listener.send(radiograph(number)) == [0]


def _is_cut_off(connection: socket.socket, again: bytes, pause: float = 0) -> bool:
    """Whether the other side ends the connection while the same is sent over and over."""
    deadline = monotonic() + PATIENCE_S
    try:
        while monotonic() < deadline:
            connection.sendall(again)
            sleep(pause)
    except OSError:
        return True
    return False


def _becomes_idle(listener: Listening) -> bool:
    deadline = monotonic() + PATIENCE_S
    while monotonic() < deadline:
        alive = [thread for thread in threading.enumerate() if "AcceptorThread" in thread.name]
        if not alive and listener.left() == []:
            return True
        sleep(0.05)
    return False


def test_a_pdu_that_announces_four_gigabytes_is_not_read(listener: Listening) -> None:
    for associated in (False, True):
        with connect(listener.port, associated=associated) as connection:
            before = peak_memory()
            connection.sendall(struct.pack(">BBL", 4 if associated else 1, 0, 0xFFFFFFF0))
            assert ended(connection)
            assert peak_memory() - before < 64 << 20
    assert _others_are_served(listener)


def test_a_connection_that_says_nothing_ends(listener: Listening) -> None:
    with connect(listener.port, associated=False) as silent:
        assert _others_are_served(listener)
        assert ended(silent)
    assert _becomes_idle(listener)


def test_half_a_pdu_is_waited_for_only_so_long_while_others_store(listener: Listening) -> None:
    with connect(listener.port) as slow:
        slow.sendall(data(command(C_STORE_RQ), command=True, last=True))
        slow.sendall(data(b"\0" * 2000, command=False, last=False)[:1000])
        assert _others_are_served(listener)
        assert ended(slow)
    assert _becomes_idle(listener)


def test_an_object_that_trickles_in_is_waited_for_only_so_long(listener: Listening) -> None:
    with connect(listener.port) as slow:
        slow.sendall(data(command(C_STORE_RQ), command=True, last=True))
        assert _is_cut_off(slow, data(b"\0\0", command=False, last=False), pause=0.3)
    assert eventually(lambda: listener.scp.refusals["data set: must arrive within 3 s"] == 1)
    assert _becomes_idle(listener)


@pytest.mark.parametrize("rest", [b"", data(b"\x08\x00", command=False, last=False)])
def test_a_sender_that_vanishes_in_the_middle_leaves_nothing(listener: Listening, rest: bytes) -> None:
    known = len(listener.inbox.instances)
    with connect(listener.port) as connection:
        connection.sendall(data(command(C_STORE_RQ), command=True, last=True) + rest)
    assert _becomes_idle(listener)
    assert len(listener.inbox.instances) == known


def test_an_echo_with_an_endless_data_set_is_cut_off(listener: Listening) -> None:
    with connect(listener.port) as connection:
        echo = command(C_ECHO_RQ, sop_class=VERIFICATION)
        connection.sendall(data(echo, command=True, last=True, context=3))
        assert _is_cut_off(connection, data(b"\0" * 16000, command=False, last=False, context=3))
    assert eventually(lambda: listener.scp.refusals["message: must be at most 4194304 bytes"] == 1)


def test_an_endless_command_is_cut_off(listener: Listening) -> None:
    with connect(listener.port) as connection:
        assert _is_cut_off(connection, data(b"\0" * 16000, command=True, last=False))
    assert eventually(lambda: listener.scp.refusals["message: must be at most 16384 bytes"] == 1)


def test_a_flood_of_requests_without_waiting_for_answers_is_cut_off(listener: Listening) -> None:
    """Each of which keeps its data set until it is answered; the answers are not read."""
    echo = data(command(C_ECHO_RQ, sop_class=VERIFICATION, with_data=False), command=True, last=True, context=3)
    with connect(listener.port) as connection:
        assert _is_cut_off(connection, echo * 50)
        assert _others_are_served(listener)


def test_a_storm_of_event_reports_starts_no_storm_of_threads(listener: Listening) -> None:
    report = data(command(N_EVENT_REPORT_RQ, with_data=False), command=True, last=True)
    before = most = threading.active_count()
    with connect(listener.port) as connection, contextlib.suppress(OSError):
        for _ in range(50):
            connection.sendall(report * 20)
            most = max(most, threading.active_count())
            sleep(0.01)
    assert most - before < 30
    assert _others_are_served(listener)


@pytest.mark.parametrize(
    "first",
    [
        data(b"\0" * 10, command=False, last=True),
        data(b"\xff" * 64, command=True, last=True),
        data(command(0x7777), command=True, last=True),
        data(command(C_STORE_RQ), command=True, last=True, context=9)
        + data(b"\0", command=False, last=True, context=9),
        data(command(C_STORE_RQ, sop_class="1.2.3"), command=True, last=True) + data(b"\0\0", command=False, last=True),
        pdu(4, b"\0\0\0\1"),
        pdu(4, struct.pack(">LBB", 0xFFFFFFFF, 1, 3) + b"x"),
        pdu(2, b"\0" * 68),
        pdu(9, b""),
        associate(),
    ],
)
def test_what_breaks_the_protocol_ends_the_association(listener: Listening, first: bytes) -> None:
    with connect(listener.port) as connection:
        connection.sendall(first)
        assert ended(connection)
    assert _others_are_served(listener)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    associated=st.booleans(),
    kind=st.integers(0, 8),
    body=st.one_of(
        st.binary(max_size=200),
        st.builds(
            lambda content, command, last, context: data(content, command=command, last=last, context=context)[6:],
            st.binary(max_size=200) | st.just(command(C_STORE_RQ)),
            *(st.booleans(), st.booleans(), st.integers(0, 5)),
        ),
    ),
    mutation=st.tuples(st.integers(0, 300), st.integers(0, 255)),
)
def test_no_bytes_keep_the_listener_from_answering(
    listener: Listening, associated: bool, kind: int, body: bytes, mutation: tuple[int, int]
) -> None:
    sent = bytearray(pdu(kind, body) if associated else associate())
    sent[mutation[0] % len(sent)] ^= mutation[1]
    with connect(listener.port, associated=associated) as connection:
        connection.sendall(bytes(sent))
    with connect(listener.port) as connection:
        echo = command(C_ECHO_RQ, sop_class=VERIFICATION, with_data=False)
        connection.sendall(data(echo, command=True, last=True, context=3))
        assert answer(connection)[0] == 4


def test_after_all_of_it_nothing_is_left(listener: Listening) -> None:
    assert _others_are_served(listener, 99)
    assert _becomes_idle(listener)
