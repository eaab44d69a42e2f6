"""A receiver that is killed in the middle of a series, over the real store."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from pydicom.dataset import Dataset
from pynetdicom import AE

from hospital.store.received import ReceivedInstance
from tests.hospital.dicom.listening import OURS, PEER
from tests.hospital.dicom.receiver_process import opened
from tests.hospital.dicom.samples import encoded, radiograph, uid
from tests.patience import PATIENCE_S


@contextmanager
def _running(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-m", "tests.hospital.dicom.receiver_process", str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def _send(port: int, datasets: list[Dataset], acknowledged: list[str]) -> None:
    """Send one after the other; what was answered 0x0000 is noted."""
    ae = AE(PEER.ae_title)
    ae.add_requested_context(datasets[0].SOPClassUID)
    ae.dimse_timeout = 10
    association = ae.associate("127.0.0.1", port, ae_title=OURS)
    for one in datasets:
        if not association.is_established:
            break
        if association.send_c_store(one).get("Status") == 0:
            acknowledged.append(one.SOPInstanceUID)
    association.abort()


def _stored(folder: Path) -> dict[str, tuple[ReceivedInstance, bytes]]:
    """SOP Instance UID → the row and the file; opening the store puts in order what the kill left."""
    store = opened(folder)
    try:
        rows = store.records.instances(uid("study", "A"))
        return {one.sop_instance: (one, store.files.read(str(one.file))) for one in rows}
    finally:
        store.close()


def test_everything_that_was_acknowledged_is_there_whole(tmp_path: Path) -> None:
    sent = [radiograph(number, side=256) for number in range(300)]
    acknowledged: list[str] = []
    with _running(tmp_path) as (process, port):
        sender = threading.Thread(target=_send, args=(port, sent, acknowledged))
        sender.start()
        deadline = monotonic() + PATIENCE_S
        while len(acknowledged) < 12 and monotonic() < deadline:
            sleep(0.005)
        process.kill()
        sender.join(PATIENCE_S)
    assert 12 <= len(acknowledged) < len(sent)
    stored = _stored(tmp_path)
    by_uid = {one.SOPInstanceUID: encoded(one) for one in sent}
    assert set(acknowledged) <= set(stored)
    assert len(stored) <= len(acknowledged) + 1
    for name, (row, content) in stored.items():
        assert row.digest == hashlib.sha256(by_uid[name]).hexdigest()
        assert content.endswith(by_uid[name])
    assert not list((tmp_path / "files" / "incoming").iterdir())

    # Sent again, the series is whole, and nothing of it is there twice.
    again: list[str] = []
    with _running(tmp_path) as (_, port):
        _send(port, sent[:20], again)
    assert len(again) == 20
    assert len(_stored(tmp_path)) == max(20, len(stored))
