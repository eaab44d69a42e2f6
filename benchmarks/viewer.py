"""How fast the reading page shows, windows and pages: ``python benchmarks/viewer.py [--side 2048] [--rounds 9]``.

The service stores one film; Debian's Chromium opens it from the worklist. In turn with that, in the same browser, the
same words are fetched, looked up and drawn with as little code as does it:

first pixel  from the click to the first frame that holds the image: milliseconds, and how many times the bare ones
window       a frame while the window is dragged
stack        a frame while films are paged through, one a frame, once they are there

Of a frame script and everything that the page's thread does are given in milliseconds of its CPU time: what else runs
on the machine does not count. The stack's films are one film under as many numbers; each is fetched and checked.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
from _options import read_options
from _random_model import model_folder
from playwright.sync_api import CDPSession, Page, sync_playwright
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid
from rich.console import Console
from rich.table import Table

from service.app.launch import RunningService
from service.audit_log.pseudonyms import make_keys

ARGUMENTS = ["--no-sandbox", "--disable-gpu"]
PATIENCE_S = 300.0
OPENED = """async study => {
  const begun = performance.now();
  document.querySelector(`a[href$="${study}"]`).click();
  for (;;) {
    await new Promise(requestAnimationFrame);
    const canvas = document.querySelector('canvas.image');
    if (!document.querySelector('.corner') || !canvas) continue;
    const {data} = canvas.getContext('2d').getImageData(canvas.width >> 1, canvas.height >> 1, 1, 1);
    if (data[0] > 0) return performance.now() - begun;
  }
}"""
"""Milliseconds from the click on a study to the frame in which its image's middle, which is not black, is there."""
BARE = """async ({address, image, width, height}) => {
  const begun = performance.now();
  const words = new Uint16Array(await (await fetch(address, {cache: 'no-store'})).arrayBuffer());
  const greys = Uint8Array.from(atob(image.table.greys), one => one.charCodeAt(0));
  const source = new OffscreenCanvas(image.columns, image.rows).getContext('2d', {willReadFrequently: true});
  const pixels = source.createImageData(image.columns, image.rows);
  const target = new Uint32Array(pixels.data.buffer);
  for (let i = 0; i < target.length; i++) {
    const grey = greys[words[i] - image.table.first];
    target[i] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
  }
  source.putImageData(pixels, 0, 0);
  const shown = Object.assign(document.createElement('canvas'), {width, height});
  document.body.append(shown);
  shown.getContext('2d', {willReadFrequently: true}).drawImage(source.canvas, 0, 0, width, height);
  await new Promise(requestAnimationFrame);
  const took = performance.now() - begun;
  shown.remove();
  return took;
}"""
"""Milliseconds of fetching the words, looking up their greys and drawing them on a canvas of the viewer's size."""
DRAGGED = """async ({frames}) => {
  const stage = document.querySelector('.stage');
  const {left, top} = stage.getBoundingClientRect();
  const send = (kind, at) => stage.dispatchEvent(new PointerEvent(kind, {
    pointerId: 1, buttons: 1, bubbles: true, clientX: left + 100 + at, clientY: top + 100 + at}));
  stage.setPointerCapture = () => undefined;
  send('pointerdown', 0);
  for (let at = 1; at <= frames; at++) { send('pointermove', at % 200); await new Promise(requestAnimationFrame); }
  send('pointerup', 0);
}"""
PAGED = """async ({frames, key}) => {
  for (let at = 0; at < frames; at++) {
    dispatchEvent(new KeyboardEvent('keydown', {key}));
    await new Promise(requestAnimationFrame);
  }
}"""
STACKED = """count => {
  const asked = window.fetch;
  window.fetch = async (path, options) => {
    const answer = await asked(path.replace(/(images)\\/\\d+$/, '$1/0'), options);
    if (!/studies\\/[\\w-]{36}$/.test(path)) return answer;
    const study = await answer.json();
    study.images = Array.from({length: count}, (_, number) => ({...study.images[0], number}));
    return Response.json(study);
  };
}"""
"""From now on a study has its first image so many times."""


def film(side: int) -> bytes:
    """A radiograph of 12 bits, bright in its middle, with noise."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    rng = np.random.default_rng(0)
    pixels = np.clip(3600 - 2400 * np.hypot(x, y) + rng.normal(0, 60, (side, side)), 0, 4095).astype(np.uint16)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = DigitalXRayImageStorageForPresentation, generate_uid(prefix=None)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(prefix=None), generate_uid(prefix=None)
    dataset.PatientID, dataset.PatientName, dataset.Modality = f"P{side}", "Phantom", "DX"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = side, side, 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.WindowCenter, dataset.WindowWidth = 2048, 4096
    dataset.PhotometricInterpretation, dataset.PixelData = "MONOCHROME2", pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def stored(client: httpx.Client, file: bytes) -> dict[str, object]:
    """The study of one film, once it is answered."""
    form = [("images", ("film.dcm", file)), ("request", (None, json.dumps({}), "application/json"))]
    answer = client.post("/v1/studies", files=form).raise_for_status()
    until = time.monotonic() + PATIENCE_S
    while (study := client.get(f"/v1/studies/{answer.json()['study_id']}").json())["state"] != "answered":
        assert study["state"] != "refused", study
        assert time.monotonic() < until
        time.sleep(0.2)
    return dict(study)


def _settings(home: str) -> dict[str, object]:
    keys = Path(home) / "audit.keys"
    make_keys(keys)
    audit_log = {"audit_log_url": f"sqlite:///{home}/audit.db", "audit_log_keys": keys}
    return {"studies": True, "insecure": True} | audit_log


def first_pixel(page: Page, url: str, study: dict[str, object], rounds: int) -> tuple[list[float], list[float]]:
    """Milliseconds of the page and of the bare steps, in turn."""
    shown: list[float] = []
    bare: list[float] = []
    address = f"{url}/v1/studies/{study['study_id']}/images/0"
    for _ in range(rounds + 1):
        page.goto(f"{url}/read/")
        page.locator(f"a[href$='{study['study_id']}']").wait_for()
        page.wait_for_load_state("networkidle")
        shown.append(page.evaluate(OPENED, study["study_id"]))
        size = page.evaluate("(({width, height}) => ({width, height}))(document.querySelector('canvas.image'))")
        image = study["images"][0]  # type: ignore[index]
        bare.append(page.evaluate(BARE, {"address": address, "image": image} | size))
    return shown[1:], bare[1:]  # the first also compiles


def paged(page: Page, url: str, study: dict[str, object], films: int) -> tuple[float, float]:
    """The same for paging back through a stack of `films` that has been paged through."""
    page.add_init_script(f"({STACKED})({films})")
    page.goto(f"{url}/read/studies/{study['study_id']}")
    page.locator(".corner").first.wait_for()
    page.evaluate(PAGED, {"frames": films - 1, "key": "PageDown"})
    page.wait_for_load_state("networkidle")
    return of_a_frame(page, PAGED, films - 1, key="PageUp")


def of_a_frame(page: Page, script: str, frames: int, **given: str) -> tuple[float, float]:
    """Milliseconds of CPU time that a frame takes: of script, and of all that the page's thread does."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    before = _metrics(session)
    page.evaluate(script, {"frames": frames} | given)
    after = _metrics(session)
    script_ms, task_ms = ((after[name] - before[name]) / frames * 1e3 for name in ("ScriptDuration", "TaskDuration"))
    return script_ms, task_ms


def _metrics(session: CDPSession) -> dict[str, float]:
    return {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model folder; without it, one with random weights")
    parser.add_argument("--side", type=int, default=2048, help="rows and columns of the film that is opened")
    parser.add_argument("--stack", type=int, default=300, help="films of 512 x 512 that are paged through")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--frames", type=int, default=200, help="of one drag")
    options = read_options(parser, arguments, side=256, stack=4, rounds=1, frames=4)
    chromium = shutil.which("chromium")
    assert chromium is not None, "the Debian package chromium is not installed"
    with (
        model_folder(options.model, "resnet18", 64) as model,
        TemporaryDirectory() as home,
        RunningService(model, _settings(home), ready_within_s=PATIENCE_S) as service,
        httpx.Client(base_url=service.url, timeout=PATIENCE_S) as client,
        sync_playwright() as playwright,
    ):
        large, small = stored(client, film(options.side)), stored(client, film(min(512, options.side)))
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1500, "height": 1000})
        page.set_default_timeout(PATIENCE_S * 1e3)
        shown, bare = first_pixel(page, service.url, large, options.rounds)
        window = of_a_frame(page, DRAGGED, options.frames)
        stack = paged(page, service.url, small, options.stack)
        browser.close()
    table = Table("what", "median", "of the bare steps", "script", "all of the thread")
    times = statistics.median(one / other for one, other in zip(shown, bare, strict=True))
    table.add_row("first pixel", f"{statistics.median(shown):.0f} ms", f"{times:.2f}", "", "")
    table.add_row("bare steps", f"{statistics.median(bare):.0f} ms", "1.00", "", "")
    table.add_row("window, a frame", "", "", *(f"{one:.2f} ms" for one in window))
    table.add_row(f"stack of {options.stack}, a film", "", "", *(f"{one:.2f} ms" for one in stack))
    Console().print(table)


if __name__ == "__main__":
    main()
