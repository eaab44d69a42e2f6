from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hospital.hl7.sender import NotDelivered, Sender
from hospital.store.received import PatientId
from tests.hospital.hl7.receiver_to_kill import opened
from tests.hospital.hl7.sent_messages import OBR, PID, message, result
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[3]
PATIENT = PatientId("4711", "hospital")


def numbered(number: int) -> bytes:
    order = OBR.replace("F1^LIS", f"F{number}^LIS")
    return message(PID, order, result(str(number))).replace(b"|42|", f"|{number}|".encode())


@contextmanager
def receiving(folder: Path, killed_after: int) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A receiver on the store in `folder`: its port, and its process."""
    command = [sys.executable, "-m", "tests.hospital.hl7.receiver_to_kill", str(folder), str(killed_after)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline()), process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def test_a_message_stored_by_a_receiver_that_was_killed_before_its_answer_is_there_once(tmp_path: Path) -> None:
    with receiving(tmp_path, killed_after=3) as (port, process):
        sender = Sender("127.0.0.1", port)
        await sender.send(numbered(1))
        await sender.send(numbered(2))
        with pytest.raises(NotDelivered) as fault:
            await sender.send(numbered(3))
        assert fault.value.transient
        assert await asyncio.to_thread(process.wait, PATIENCE_S) == -9
    with receiving(tmp_path, killed_after=100) as (port, _):
        sender = Sender("127.0.0.1", port)
        for number in (3, 3, 4):
            await sender.send(numbered(number))
        await sender.close()
    store = opened(tmp_path)
    store.take()
    assert sorted(one.value or 0.0 for one in store.records.observations([PATIENT])) == [1.0, 2.0, 3.0, 4.0]
    assert len(store.records.messages()) == 4
    store.close()
