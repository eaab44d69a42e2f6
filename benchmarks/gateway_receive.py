"""What receiving costs beside dcmtk's storescp: ``python benchmarks/gateway_receive.py [--objects 100] [--rounds 3]``.

Both receive the same radiographs (2 MiB each, one association, from dcmtk's storescu), in turn, round by round:

gateway   encrypted, synced, renamed, in a committed row before each acknowledgement
storescp  written as they come (``+B``), never synced

Then the gateway's peak memory for a series of many slices and for one large object, each in a process of its own.
Without dcmtk, pynetdicom sends, and there is no storescp to compare with.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import create_connection, create_server

import numpy as np
from _options import read_options
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE
from rich.console import Console
from rich.table import Table

DCMTK = "/usr/bin:/usr/local/bin"  # pynetdicom's programs of the same names stand elsewhere
_RECEIVER = Path(__file__).with_name("_gateway_receiver.py")
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Received:
    """What one receiver used: wall and CPU seconds of the objects alone, and bytes at most of the whole process."""

    seconds: float
    cpu_s: float
    peak: int


def write_objects(folder: Path, count: int, side: int, sop_class: str) -> None:
    """`count` images of `side` x `side` x 16 bits, of one series."""
    folder.mkdir(parents=True)
    study, series = generate_uid(prefix=None), generate_uid(prefix=None)
    pixels = np.random.default_rng(0).integers(0, 4096, (side, side), dtype=np.uint16)
    for number in range(count):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, generate_uid(prefix=None)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.PatientID, dataset.PatientName, dataset.Modality = "P1", "Phantom", "OT"
        dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber = "20260105", "101500", "A1"
        dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = side, side, 1
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
        dataset.PhotometricInterpretation, dataset.PixelData = "MONOCHROME2", pixels.tobytes()
        dataset["PixelData"].VR = "OW"
        dataset.save_as(folder / f"{number:05}.dcm", enforce_file_format=True)


def send(files: Path, port: int) -> None:
    """Every file of a folder over one association."""
    if program := shutil.which("storescu", path=DCMTK):
        command = [program, "-aec", "CONSILIUM", "--max-send-pdu", "131072", "+sd", "127.0.0.1", str(port), str(files)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return
    datasets = [dcmread(path) for path in sorted(files.iterdir())]
    ae = AE("STORESCU")
    ae.add_requested_context(datasets[0].SOPClassUID, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", port, ae_title="CONSILIUM")
    for one in datasets:
        assert association.send_c_store(one).Status == 0
    association.release()


def gateway(files: Path) -> Received:
    """What the gateway's listener uses for the files of a folder."""
    with tempfile.TemporaryDirectory(dir=files.parent) as folder:
        command = [sys.executable, str(_RECEIVER), folder]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            port, before = process.stdout.readline().split()
            start = time.perf_counter()
            send(files, int(port))
            seconds = time.perf_counter() - start
            process.stdin.close()
            after, peak, count = process.stdout.readline().split()
        assert int(count) == len(list(files.iterdir())), "every object arrived"
        return Received(seconds, float(after) - float(before), int(peak))


def storescp(files: Path) -> Received:
    """What dcmtk's storescp uses for them, its start included."""
    with tempfile.TemporaryDirectory(dir=files.parent) as folder, _storescp(folder) as (process, port):
        start = time.perf_counter()
        send(files, port)
        seconds = time.perf_counter() - start
        # Of its own: what `wait4` says counts this process, which it was forked from.
        peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text(encoding="ascii"))
        process.terminate()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = status
        assert len(list(Path(folder).iterdir())) == len(list(files.iterdir())), "every object arrived"
        return Received(seconds, used.ru_utime + used.ru_stime, int(peak[1]) * 1024 if peak else 0)


@contextmanager
def _storescp(folder: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    with create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    program = shutil.which("storescp", path=DCMTK)
    command = [str(program), "+B", "--max-pdu", "131072", "-od", folder, str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        for _ in range(200):
            try:
                create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        yield process, port


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slices", type=int, default=500, help="of the series whose peak memory is shown")
    parser.add_argument("--large", type=int, default=256, help="MiB of the one object whose peak memory is shown")
    options = read_options(parser, arguments, objects=4, rounds=1, slices=8, large=2)
    receivers = {"gateway": gateway} | ({"storescp": storescp} if shutil.which("storescp", path=DCMTK) else {})
    with tempfile.TemporaryDirectory() as folder:
        radiographs, slices, large = (Path(folder, name) for name in ("radiographs", "slices", "large"))
        write_objects(radiographs, options.objects, 1024, DigitalXRayImageStorageForPresentation)
        write_objects(slices, options.slices, 512, CTImageStorage)
        write_objects(large, 1, int((options.large * MIB / 2) ** 0.5), DigitalXRayImageStorageForPresentation)
        rounds = [{name: receive(radiographs) for name, receive in receivers.items()} for _ in range(options.rounds)]
        series, one = gateway(slices), gateway(large)
    table = Table("receiver", "objects a second", "CPU ms an object", "peak MiB")
    for name in receivers:
        speed, cpu, peak = (
            statistics.median(of(one[name]) for one in rounds)
            for of in (
                lambda used: options.objects / used.seconds,
                lambda used: used.cpu_s / options.objects * 1e3,
                lambda used: used.peak / MIB,
            )
        )
        table.add_row(name, f"{speed:.1f}", f"{cpu:.2f}", f"{peak:.1f}")
    table.add_row(f"gateway, {options.slices} slices", *_figures(series, options.slices))
    table.add_row(f"gateway, one object of {options.large} MiB", *_figures(one, 1))
    Console().print(table)


def _figures(used: Received, count: int) -> tuple[str, str, str]:
    return f"{count / used.seconds:.1f}", f"{used.cpu_s / count * 1e3:.2f}", f"{used.peak / MIB:.1f}"


if __name__ == "__main__":
    main()
