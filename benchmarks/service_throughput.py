"""The service over HTTP against the bare model: ``python benchmarks/service_throughput.py [--model FOLDER] [--peers]``.

Requests with a note, two values, an age and either a small PNG or a 1024 × 1024 DICOM come from 1, 4 and 16 callers at
once. Beside each, in the same round, the bare model is called in a loop on tensors in memory, with the same number of
threads: one study at a time, and at the batch size that is best, which is the servers', too. Shares are medians over
the rounds.

For one caller the time of the steps is measured, too: reading the form, decoding, answering and committing, each called
alone in this process. With ``--peers`` the same model stands behind LitServe, `mlflow models serve` and a pair
of BentoML services (`benchmarks/_peers`), which are asked in turn with the service. LitServe is no dependency of the
project, as it brings another event loop: ``pip install litserve==0.2.19`` comes first, then best
``pip uninstall uvloop httptools``, so that all servers run on the same.

With ``--null`` it measures instead what a request costs beside the network (`benchmarks/_null.py`).

Callers, web server and decoder run beside the model's thread: on two cores they take from it what the bare loop keeps.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import _null
import httpx
import torch
from _options import read_options
from _peers import BATCH, MODEL, PORT
from _random_model import model_folder, study
from PIL import Image as Picture
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid
from rich.console import Console
from rich.table import Table
from starlette.datastructures import Headers

from consilium.artifacts.pyfunc_signature import AGE, ARTIFACT, SEX, signature
from consilium.inference.diagnostician import Diagnostician
from consilium.ingest.study_records import study_from_records
from consilium.modalities.image.records import read_image
from service.app.launch import RunningService, free_port
from service.audit_log.database import Database, read_url
from service.audit_log.entries import Draft, Endpoint, Origin
from service.audit_log.pseudonyms import make_keys, read_keys
from service.audit_log.store import Store
from service.http.multipart import read_form
from service.settings import Settings

HERE = Path(__file__).resolve().parent
CALLERS = (1, 4, 16)
BATCHES = (1, 2, 4, 8, 16)
SERVICE = "this service"
_START_S = 120.0


@dataclass(frozen=True)
class Sent:
    """One kind of request: the image's bytes, and the records beside it."""

    name: str
    image: bytes
    records: Mapping[str, Any]

    def form(self) -> tuple[bytes, dict[str, str]]:
        """Body and headers for the service."""
        parts = [("images", ("x", self.image)), ("request", (None, json.dumps(self.records), "application/json"))]
        request = httpx.Request("POST", "http://127.0.0.1", files=parts)
        return request.read(), {"Content-Type": request.headers["Content-Type"]}

    def peer(self) -> dict[str, Any]:
        return {"images": [base64.b64encode(self.image).decode()], **self.records}

    def bento(self) -> dict[str, Any]:
        return {"study": self.peer()}

    def mlflow(self) -> dict[str, Any]:
        row = {
            "images": [base64.b64encode(self.image).decode()],
            "notes": json.dumps(self.records["notes"]),
            "observations": json.dumps(self.records["observations"]),
            AGE: self.records["patient"]["age"],
            SEX: self.records["patient"]["sex"],
        }
        return {"dataframe_records": [row]}


@dataclass(frozen=True)
class Server:
    """Where a server is asked, and how."""

    url: str
    body: Callable[[Sent], tuple[bytes, dict[str, str]]]


@dataclass
class Measured:
    """Answers a second of a server, and studies a second of the bare model, per round; the latency of every answer."""

    server: list[float] = field(default_factory=list)
    single: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    failed: int = 0


# --- what is sent ----------------------------------------------------------------------------------------------------


def kinds(side: int, dicom_side: int) -> list[Sent]:
    sample = study(0, side)
    records = {
        "notes": [{"kind": note.kind.value, "text": note.text} for note in sample.parts["text"]],
        "observations": [
            {"code": o.code, "value": o.given_value, "unit": o.given_unit} for o in sample.parts["observations"]
        ],
        "patient": {"age": sample.patient.age, "sex": sample.patient.sex.value},
    }
    data = io.BytesIO()
    Picture.fromarray((sample.parts["image"][0].pixels >> 8).astype("uint8")).save(data, "PNG")
    return [
        Sent(f"PNG {side} × {side}", data.getvalue(), records),
        Sent(f"DICOM {dicom_side} × {dicom_side}", dicom(dicom_side), records),
    ]


def dicom(side: int) -> bytes:
    """A radiograph of noise, uncompressed, 12 bits."""
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    file.Modality, file.ViewPosition, file.PhotometricInterpretation = "DX", "PA", "MONOCHROME2"
    file.Rows = file.Columns = side
    file.SamplesPerPixel, file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 1, 16, 12, 11, 0
    file.PixelData = (study(1, side).parts["image"][0].pixels >> 4).tobytes()
    written = io.BytesIO()
    file.save_as(written, enforce_file_format=True)
    return written.getvalue()


# --- servers ---------------------------------------------------------------------------------------------------------


@contextmanager
def running(command: Sequence[str], port: int, ready: str, folder: Path, batch: int) -> Iterator[None]:
    """A server of `command` in a process group of its own, once ``ready`` answers."""
    given = {
        MODEL: str(folder),
        PORT: str(port),
        BATCH: str(batch),
        "PYTHONPATH": f"{HERE}:{HERE.parent}",
        "OMP_NUM_THREADS": "1",
    }
    given["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow looks for uvicorn there
    quiet = {"BENTOML_DO_NOT_TRACK": "True", "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen(
        command,
        cwd=HERE,
        env=os.environ | quiet | given,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait(process, f"http://127.0.0.1:{port}{ready}")
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, timeout=2).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"{url} does not answer")


def as_json(shape: Callable[[Sent], dict[str, Any]], sent: Sent) -> tuple[bytes, dict[str, str]]:
    return json.dumps(shape(sent)).encode(), {"Content-Type": "application/json"}


def peers(stack: ExitStack, folder: Path, room: Path, batch: int) -> dict[str, Server]:
    """Each with its model on one thread."""
    import mlflow

    python = [sys.executable, "-m"]
    ports = [free_port() for _ in range(3)]
    lit, bento, flow = (f"http://127.0.0.1:{port}" for port in ports)
    code = HERE.parent / "consilium"
    mlflow.pyfunc.save_model(
        room / "pyfunc",
        python_model=str(code / "pyfunc_model.py"),
        artifacts={ARTIFACT: str(folder)},
        code_paths=[str(code)],
        pip_requirements=[],
        signature=signature(Diagnostician.load(folder, "cpu").findings),
    )
    front = [*python, "bentoml", "serve", "_peers.bentoml_server:Front", "--host", "127.0.0.1", "--port", str(ports[1])]
    served = ["mlflow", "models", "serve", "-m", str(room / "pyfunc"), "--env-manager", "local", "-p", str(ports[2])]
    stack.enter_context(running([*python, "_peers.litserve_server"], ports[0], "/health", folder, batch))
    stack.enter_context(running(front, ports[1], "/readyz", folder, batch))
    stack.enter_context(running([*python, *served], ports[2], "/ping", folder, batch))
    return {
        "LitServe": Server(f"{lit}/predict", partial(as_json, Sent.peer)),
        "BentoML depends": Server(f"{bento}/diagnose", partial(as_json, Sent.bento)),
        "mlflow models serve": Server(f"{flow}/invocations", partial(as_json, Sent.mlflow)),
    }


# --- measuring -------------------------------------------------------------------------------------------------------


async def call(server: Server, sent: Sent, callers: int, seconds: float) -> tuple[float, list[float], int]:
    """Answers a second, their latencies, and how many requests failed.

    Each of the `callers` waits for one answer before its next request.
    """
    latencies: list[float] = []
    failed = 0
    body, headers = server.body(sent)  # encoded once: the cost of the callers is not measured
    end = time.perf_counter() + seconds

    async def caller(client: httpx.AsyncClient) -> None:
        nonlocal failed
        while time.perf_counter() < end:
            begun = time.perf_counter()
            answer = await client.post(server.url, content=body, headers=headers)
            if answer.is_success:
                latencies.append(time.perf_counter() - begun)
            else:
                failed += 1

    async with httpx.AsyncClient(timeout=120) as client:
        begun = time.perf_counter()
        await asyncio.gather(*[caller(client) for _ in range(callers)])
        return len(latencies) / (time.perf_counter() - begun), latencies, failed


def bare(diagnostician: Diagnostician, size: int, seconds: float) -> float:
    """Studies a second of the model alone, in batches of `size`."""
    batch = diagnostician.preprocessing.collate([diagnostician.prepare(study(n, 64)) for n in range(size)])
    done, begun = 0, time.perf_counter()
    with torch.inference_mode():
        while (taken := time.perf_counter() - begun) < seconds:
            diagnostician.model(batch)
            done += size
    return done / taken


def best_batch(diagnostician: Diagnostician, seconds: float) -> int:
    rates = {size: bare(diagnostician, size, seconds) for size in BATCHES}
    return max(rates, key=lambda size: rates[size])


def parts(diagnostician: Diagnostician, sent: Sent, room: Path, rounds: int) -> dict[str, float]:
    """Median seconds of what one request is made of, each called alone."""
    settings = Settings(model="x")
    body, headers = sent.form()
    make_keys(room / "keys")
    store = Store(Database(read_url(f"sqlite:///{room / 'parts.db'}")), read_keys(room / "keys"))
    store.database.open()
    taken: dict[str, list[float]] = {}

    async def read() -> Any:
        async def chunks() -> Any:
            yield body

        return await read_form(Headers(headers), chunks(), settings)

    def timed(name: str, do: Callable[[], Any]) -> Any:
        begun = time.perf_counter()
        done = do()
        taken.setdefault(name, []).append(time.perf_counter() - begun)
        return done

    for _ in range(rounds):
        timed("parse", lambda: asyncio.run(read()))
        image = timed("decode", lambda: read_image(sent.image))
        records = {name: sent.records[name] for name in ("notes", "observations", "patient")}
        asked = study_from_records(images=[image], **records)
        (diagnosis,) = timed("answer", lambda asked=asked: diagnostician.diagnose([asked]))
        entry = Draft(Endpoint.DIAGNOSE, Origin("benchmark", "x"), None).entry(asked, diagnosis, b"", "serving")
        timed("commit", lambda entry=entry: store.commit([entry], 60))
    store.database.close()
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


# --- reporting -------------------------------------------------------------------------------------------------------


def report(measured: Mapping[tuple[str, str, int], Measured], title: str) -> Table:
    names = ("server", "sent", "callers", "answers/s", "failed", "p50 ms", "p95 ms", "share of one", "share of best")
    table = Table(*names)
    table.title = title
    for (server, sent, callers), m in measured.items():
        shares = [[s / b for s, b in zip(m.server, loop, strict=True)] for loop in (m.single, m.best)]
        table.add_row(
            server,
            sent,
            str(callers),
            f"{statistics.median(m.server):.1f}",
            f"{m.failed / (m.failed + len(m.latencies)):.0%}" if m.failed else "",
            f"{1000 * quantile(m.latencies, 0.5):.1f}",
            f"{1000 * quantile(m.latencies, 0.95):.1f}",
            f"{statistics.median(shares[0]):.2f}",
            f"{statistics.median(shares[1]):.2f}",
        )
    return table


def report_parts(measured: Mapping[tuple[str, str, int], Measured], alone: Mapping[str, Mapping[str, float]]) -> Table:
    names = list(next(iter(alone.values())))
    table = Table("sent", *[f"{name} ms" for name in names], "sum ms", "service p50 ms", "× the sum")
    table.title = "One caller, and what one request is made of"
    for sent, seconds in alone.items():
        whole, asked = sum(seconds.values()), quantile(measured[SERVICE, sent, 1].latencies, 0.5)
        figures = [*(seconds[name] for name in names), whole, asked]
        table.add_row(sent, *[f"{1000 * figure:.1f}" for figure in figures], f"{asked / whole:.2f}")
    return table


def report_null(given: argparse.Namespace, sent: Sequence[Sent]) -> None:
    requests = {
        one.name: _null.Request(
            *one.form(), one.image, {name: one.records[name] for name in ("notes", "observations", "patient")}
        )
        for one in sent
    }
    with model_folder(given.model, given.encoder, given.size) as folder, TemporaryDirectory() as room:
        os.environ["CONSILIUM_HOME"] = room  # What it answers is no part of the user's record.
        diagnostician = Diagnostician.load(folder, "cpu")
        measured = _null.measure(
            folder.resolve(), diagnostician, requests, given.decoders, given.rounds, given.requests
        )
    Console(width=140).print(_null.report(measured))


def main(argv: Sequence[str] | None = None) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", type=Path, help="a model folder; a random DenseNet121 at 224 pixels unless given")
    arguments.add_argument("--encoder", default="densenet121")
    arguments.add_argument("--size", type=int, default=224)
    arguments.add_argument("--side", type=int, default=224, help="pixels of the PNG sent")
    arguments.add_argument("--dicom", type=int, default=1024, help="pixels of the DICOM file sent")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    arguments.add_argument("--peers", action="store_true", help="ask LitServe, MLflow and BentoML's own batching, too")
    arguments.add_argument("--null", action="store_true", help="a model that answers at once: CPU time of the rest")
    arguments.add_argument("--decoders", type=int, nargs="+", default=[1, 2], help="numbers of decoders, for --null")
    arguments.add_argument("--requests", type=int, default=300, help="of each measurement, for --null")
    small = {"encoder": "resnet18", "size": 64, "side": 64, "dicom": 64}
    given = read_options(arguments, argv, **small, rounds=1, seconds=0.1, requests=8, decoders=[1], null=True)
    torch.set_num_threads(given.threads)
    sent = kinds(given.side, given.dicom)
    if given.null:
        report_null(given, sent)
        return
    measured: dict[tuple[str, str, int], Measured] = {}
    with ExitStack() as stack:
        folder = stack.enter_context(model_folder(given.model, given.encoder, given.size)).resolve()
        room = Path(stack.enter_context(TemporaryDirectory()))
        diagnostician = Diagnostician.load(folder, "cpu")
        best = best_batch(diagnostician, given.seconds / 2)
        os.environ["CONSILIUM_HOME"] = str(room)  # What it answers is no part of the user's record.
        servers = peers(stack, folder, room, best) if given.peers else {}
        chosen = {"model_threads": given.threads, "device": "cpu", "batch_size": best}
        ours = stack.enter_context(RunningService(folder, chosen))
        servers = {SERVICE: Server(f"{ours.url}/v1/diagnose", Sent.form), **servers}
        for _ in range(given.rounds):
            for one in sent:
                for callers in CALLERS:
                    for name, server in servers.items():
                        m = measured.setdefault((name, one.name, callers), Measured())
                        rate, latencies, failed = asyncio.run(call(server, one, callers, given.seconds))
                        m.failed += failed
                        m.server.append(rate)
                        m.latencies.extend(latencies)
                        m.single.append(bare(diagnostician, 1, given.seconds / 2))
                        m.best.append(bare(diagnostician, best, given.seconds / 2))
        alone = {one.name: parts(diagnostician, one, room / str(number), 15) for number, one in enumerate(sent)}
    encoder = diagnostician.recipe.modalities["image"].encoder
    Console(width=140).print(report(measured, f"{encoder}, {given.threads} thread(s); best batch {best}"))
    Console(width=140).print(report_parts(measured, alone))


if __name__ == "__main__":
    main()
