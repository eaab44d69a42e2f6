"""What the reading page shows: the model's own greys, nothing cut off, and all of it to whoever uses a keyboard."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pydicom.data
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, expect
from pydicom import dcmread, uid
from pydicom.encaps import encapsulate

from consilium.modalities.image.records import read_image
from service.app.launch import RunningService
from service.auth.api_keys import create_key
from service.scopes import Scope
from tests.consilium.formats.dicom.dicom_files import LOSSLESS, dicom_file, header, jpeg, ramp
from tests.consilium.modalities.image.files.test_dicom_image import RGB, lut
from tests.consilium.modalities.image.files.test_raster import png

PATIENCE_MS = 60_000
PATIENCE_S = 120
WINDOW_12_BIT = {"WindowCenter": 2048, "WindowWidth": 4096}
NARROW = {"WindowCenter": 1500, "WindowWidth": 900}
SMALL = ramp(8, 8, bits=8)
SIGNED = ramp(32, 40).astype(np.int16) - 2048
PAINTED = """async (canvas, [rows, columns]) => {
  await new Promise(requestAnimationFrame);
  const {width, height} = canvas;
  const {data} = canvas.getContext('2d').getImageData(0, 0, width, height);
  const pixels = new Uint32Array(data.buffer);
  const [top, left] = [Math.round((height - rows) / 2), Math.round((width - columns) / 2)];
  let greys = '';
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const grey = pixels[y * width + x] & 0xff;
      if (pixels[y * width + x] !== (0xff000000 | grey * 0x010101) >>> 0) return 'a colour';
      if (y >= top && y < top + rows && x >= left && x < left + columns) greys += String.fromCharCode(grey);
      else if (grey) return `a grey beside the image, in row ${y - top}, column ${x - left}`;
    }
  }
  return {greys: btoa(greys)};
}"""
"""The greys in the middle of a canvas, once what was asked for is drawn, where all around them is black."""
LAYOUT = Path(__file__).with_name("page_layout.js").read_text(encoding="utf-8")
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
MOST_STOPS = 150
FOCUS = """() => {
  const one = document.activeElement;
  if (!one || one === document.body) return null;
  const seen = one.matches('.segments input') ? one.nextElementSibling : one.closest('.button') ?? one;
  const {outlineStyle, outlineWidth} = getComputedStyle(seen);
  const {top, bottom, left, right} = seen.getBoundingClientRect();
  const inSight = bottom > 0 && right > 0 && top < innerHeight && left < innerWidth;
  return outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2 && inSight ? null : one.outerHTML.slice(0, 100);
}"""
"""What has the focus, where that cannot be seen."""


def sample(name: str) -> bytes:
    """A file that comes with pydicom or with its samples' package, of the same patient as all others."""
    folders = [Path(pydicom.data.__file__).parent / "test_files"]
    if store := importlib.util.find_spec("data_store"):
        folders += [Path(folder) / "data" for folder in store.submodule_search_locations or ()]
    dataset = dcmread(next(path for folder in folders for path in folder.rglob(name)))
    own = header(ramp())
    dataset.PatientID, dataset.StudyInstanceUID = own.PatientID, own.StudyInstanceUID
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def encodings() -> dict[str, bytes]:
    """A file in each transfer syntax that the tests have."""
    import jpeg_ls

    near = encapsulate([bytes(jpeg_ls.encode_array(ramp(), lossy_error=3))])
    twelve = {uid.UID(one).keyword: dicom_file(ramp(), one, **WINDOW_12_BIT) for one in LOSSLESS}
    return twelve | {
        "signed": dicom_file(SIGNED, WindowCenter=0, WindowWidth=4096),
        "signed, JPEG-LS": dicom_file(SIGNED, uid.JPEGLSLossless, WindowCenter=0, WindowWidth=4096),
        "signed, JPEG 2000": dicom_file(SIGNED, uid.JPEG2000Lossless, WindowCenter=0, WindowWidth=4096),
        "8 bits": dicom_file(ramp(36, 38, bits=8)),
        "8 bits, RLE": dicom_file(ramp(36, 38, bits=8), uid.RLELossless),
        "JPEG baseline": dicom_file(ramp(bits=8), uid.JPEGBaseline8Bit),
        "JPEG-LS near lossless": dicom_file(ramp(), uid.JPEGLSNearLossless, pixel_data=near, **WINDOW_12_BIT),
        "JPEG extended": sample("JPGExtended.dcm"),
        "JPEG 2000, lossy": sample("JPEG2000.dcm"),
        "PNG, 16 bits": png((ramp() * np.uint16(16))[..., None]),
        "PNG, 16 bits, colour": png(RGB * np.uint16(257) + np.uint16(3)),
        "JPEG": jpeg(ramp(bits=8)),
        "JPEG, colour": jpeg(RGB),
    }


def displays() -> dict[str, bytes]:
    """A file for each way from stored values to greys."""
    padded, entries = ramp(), np.minimum(np.arange(4096) // 2, 1023).tolist()
    padded[:5] = 4000
    gap = (1000 + ramp() % 100).astype(np.uint16)
    gap[:24] = 0
    palette: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for number, colour in enumerate(("Red", "Green", "Blue")):
        palette[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        palette[f"{colour}PaletteColorLookupTableData"] = (np.arange(256) * 257 // (number + 1)).astype("<u2").tobytes()
    half = np.stack([SMALL[:, ::2], SMALL[:, 1::2], SMALL[:, ::2], SMALL[:, ::2]], axis=-1).tobytes()
    colour, one = np.zeros((8, 8, 3), np.uint8), {"PhotometricInterpretation": "MONOCHROME1"}
    return {
        "no window": dicom_file(ramp()),
        "narrow window": dicom_file(ramp(), **NARROW),
        "LINEAR_EXACT": dicom_file(ramp(), VOILUTFunction="LINEAR_EXACT", **NARROW),
        "SIGMOID": dicom_file(ramp(), VOILUTFunction="SIGMOID", **NARROW),
        "a threshold": dicom_file(ramp(), WindowCenter=1500, WindowWidth=1),
        "MONOCHROME1": dicom_file(ramp(), **one, **NARROW),
        "MONOCHROME1, no window": dicom_file(ramp(), **one),
        "MONOCHROME1, SIGMOID": dicom_file(ramp(), VOILUTFunction="SIGMOID", **one, **NARROW),
        "INVERSE": dicom_file(ramp(), PresentationLUTShape="INVERSE", **NARROW),
        "rescale": dicom_file(ramp(), RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=1000, WindowWidth=3000),
        "modality LUT": dicom_file(SMALL, ModalityLUTSequence=lut(0, 16, [7 * (255 - i) for i in range(256)])),
        "VOI LUT": dicom_file(ramp(), VOILUTSequence=lut(0, 10, entries), **WINDOW_12_BIT),
        "VOI LUT, signed": dicom_file(SIGNED, VOILUTSequence=lut(-500, 10, list(range(1000)))),
        "VOI LUT of fewer bits": dicom_file(ramp(), VOILUTSequence=lut(0, 16, list(range(4096)))),
        "padding": dicom_file(padded, PixelPaddingValue=4000, **WINDOW_12_BIT),
        "padding, MONOCHROME1": dicom_file(padded, PixelPaddingValue=4000, **one, **WINDOW_12_BIT),
        "padding, no window": dicom_file(gap, PixelPaddingValue=0),
        "unused bits": dicom_file(ramp() | np.uint16(0xA000), **WINDOW_12_BIT),
        "high bit": dicom_file((ramp() << 4) | np.uint16(5), HighBit=15, **WINDOW_12_BIT),
        "RGB": dicom_file(RGB),
        "RGB in planes": dicom_file(RGB, pixel_data=np.moveaxis(RGB, -1, 0).tobytes(), PlanarConfiguration=1),
        "YBR_FULL": dicom_file(RGB, PhotometricInterpretation="YBR_FULL"),
        "YBR_FULL_422": dicom_file(colour, pixel_data=half, PhotometricInterpretation="YBR_FULL_422"),
        "palette": dicom_file(SMALL, **palette),
        "palette, big endian": dicom_file(SMALL, uid.ExplicitVRBigEndian, **palette),
        "blank": dicom_file(np.full((20, 30), 700, np.uint16)),
    }


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.json"


@pytest.fixture(scope="module")
def tokens(keys: Path) -> dict[str, str]:
    """API keys of three readers of one group; each reads on their own account."""
    return {name: create_key(keys, name, list(Scope), ["chest"])[1] for name in ("Dr House", "Dr Weber", "Dr Tab")}


@pytest.fixture(scope="module")
def service(tiny_folder: Path, keys: Path, tokens: dict[str, str]) -> Iterator[RunningService]:
    assert tokens
    settings = {
        "studies": True,
        "keys": keys,
        "model_threads": 1,
        "max_images": 64,
        "sign_ins_per_minute": 1000,
        "page_ohif_url": "https://ohif.example.org/viewer?modeId=basic",
    }
    with RunningService(tiny_folder, settings, ready_within_s=600) as running:
        yield running


@pytest.fixture(scope="module")
def client(service: RunningService, tokens: dict[str, str]) -> Iterator[httpx.Client]:
    bearer = {"Authorization": f"Bearer {tokens['Dr House']}"}
    with httpx.Client(base_url=service.url, headers=bearer, timeout=PATIENCE_S) as client:
        yield client


def kept(client: httpx.Client, *files: bytes, **request: Any) -> str:
    """The study of these files, once it is answered or refused."""
    form: list[tuple[str, Any]] = [("images", (f"{number}", file)) for number, file in enumerate(files)]
    form.append(("request", (None, json.dumps(request), "application/json")))
    answer = client.post("/v1/studies", files=form)
    assert answer.status_code == 202, answer.text
    study = str(answer.json()["study_id"])
    until = time.monotonic() + PATIENCE_S
    while client.get(f"/v1/studies/{study}").json()["state"] in {"queued", "running"}:
        assert time.monotonic() < until
        time.sleep(0.2)
    return study


@pytest.fixture(scope="module")
def studies(client: httpx.Client) -> dict[str, str]:
    """A study with an earlier one of its patient, one without an image, and one that is refused."""
    notes = [{"kind": "history", "text": "Fever and productive cough for three days. No weight loss."}]
    patient = {"PatientID": "P2", "StudyTime": "101500", **WINDOW_12_BIT}
    film = dicom_file(ramp(480, 400), PixelSpacing=[0.5, 0.5], StudyDate="20260105", **patient)
    lateral = dicom_file(ramp(), ViewPosition="LL", StudyDate="20260105", **patient)
    earlier = dicom_file(ramp(300, 400), StudyDate="20250105", StudyInstanceUID="1.2.2", **patient)
    prior = kept(client, earlier, notes=notes)
    ordinary = kept(client, film, lateral, notes=notes)
    return {
        "ordinary": ordinary,
        "prior": prior,
        "words": kept(client, notes=notes),
        "refused": kept(client, film[: len(film) * 2 // 3]),
    }


Opened = Callable[..., Page]


@pytest.fixture
def opened(browser: Browser, service: RunningService) -> Iterator[Opened]:
    """Open a path of the page in a browser of its own; what the browser complains of is `expected`, or a failure."""
    expect.set_options(timeout=PATIENCE_MS)
    complaints: list[str] = []
    contexts: list[BrowserContext] = []

    def open_page(path: str = "", expected: str = r"(?!)", locale: str = "en-GB") -> Page:
        context = browser.new_context(locale=locale, viewport={"width": 1500, "height": 900})
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()

        def note(text: str) -> None:
            if not re.search(expected, text):
                complaints.append(text)

        page.on("console", lambda message: note(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: note(str(error)))
        page.goto(f"{service.url}/read/{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def sign_in(page: Page, token: str) -> None:
    page.locator("input[type=password]").fill(token)
    page.keyboard.press("Enter")
    expect(page.locator("header.top")).to_be_visible()


def painted(page: Page, shape: tuple[int, int]) -> np.ndarray:
    """The image of this shape that is drawn, pixel by pixel, in the middle of the canvas; nothing else is there."""
    found = page.locator("canvas.image").evaluate(PAINTED, shape)
    assert isinstance(found, dict), found
    return np.frombuffer(base64.b64decode(found["greys"]), np.uint8).reshape(shape).astype(np.int64)


def test_every_encoding_and_display_is_painted_as_the_model_reads_it(
    opened: Opened, client: httpx.Client, tokens: dict[str, str]
) -> None:
    files = encodings() | displays()
    page = opened(f"studies/{kept(client, *files.values())}")
    page.set_viewport_size({"width": 1500, "height": 1300})
    sign_in(page, tokens["Dr House"])
    wrong = {}
    for number, (name, file) in enumerate(files.items(), 1):
        shows(page, f"Image {number} of {len(files)}")
        page.keyboard.press("j")
        expected = (read_image(file).pixels >> 8).astype(np.int64)
        difference = np.abs(painted(page, expected.shape) - expected)
        if difference.any():
            wrong[name] = (int(difference.max()), float((difference > 0).mean()))
        page.keyboard.press("PageDown")
    assert wrong == {}, "the largest difference, and the share of pixels that differ"


def shows(page: Page, place: str = "Image") -> None:
    """Wait until an image is on the canvas, and it is the one at `place`."""
    expect(page.locator(".corner.top-right").first).to_contain_text(place)


def test_pixels_that_are_not_those_of_the_study_are_not_shown(
    opened: Opened, tokens: dict[str, str], studies: dict[str, str]
) -> None:
    page = opened()

    def exchange(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=bytes([answer.body()[0] ^ 1]) + answer.body()[1:])

    page.route("**/images/0", exchange)
    page.goto(f"{page.url}studies/{studies['ordinary']}")
    sign_in(page, tokens["Dr House"])
    expect(page.get_by_role("alert")).to_contain_text("What was received is not this image: SHA-256")
    assert not painted(page, (0, 0)).any()


@pytest.mark.parametrize(
    ("status", "kind", "told"),
    [
        (404, "not-in-archive", "not yet, or no longer"),
        (409, "other-patient", "under another patient now"),
        (504, "archive-timeout", "took too long"),
    ],
)
def test_an_image_that_the_archive_does_not_give_leaves_the_canvas_black_and_says_why(
    opened: Opened, tokens: dict[str, str], studies: dict[str, str], status: int, kind: str, told: str
) -> None:
    page = opened(expected=str(status))
    problem = {"type": f"urn:consilium:problem:{kind}", "title": "Refused", "status": status, "detail": "In English."}
    page.route("**/images/0", lambda route: route.fulfill(status=status, json=problem))
    page.goto(f"{page.url}studies/{studies['ordinary']}")
    sign_in(page, tokens["Dr House"])
    expect(page.get_by_role("alert")).to_contain_text(told)
    assert not painted(page, (0, 0)).any()
    page.unroute("**/images/0")
    page.get_by_role("button", name="Try again").first.click()
    expect(page.locator(".corner.top-left").first).to_be_visible()


def test_images_side_by_side_zoom_and_move_together_until_told_otherwise(
    opened: Opened, tokens: dict[str, str], studies: dict[str, str]
) -> None:
    page = opened(f"studies/{studies['ordinary']}")
    sign_in(page, tokens["Dr House"])
    shows(page)
    page.get_by_role("button", name="Compare with").click()
    expect(page.get_by_text("Prior study")).to_be_visible()

    def zooms() -> list[float]:
        return [float(one.split("×")[0]) for one in page.locator(".corner.bottom-right").all_inner_texts()]

    page.get_by_role("button", name="One to one").first.click()
    expect(page.locator(".corner.bottom-right").nth(1)).to_contain_text("1.00 ×")
    assert zooms() == [1, 1]
    page.get_by_role("button", name="Zoom in").last.click()
    expect(page.locator(".corner.bottom-right").first).to_contain_text("1.25 ×")
    assert zooms() == [1.25, 1.25]
    page.get_by_label("Zoom and move together").uncheck()
    page.get_by_role("button", name="Zoom out").first.click()
    expect(page.locator(".corner.bottom-right").first).to_contain_text("1.00 ×")
    assert zooms() == [1, 1.25]


def test_ohif_is_asked_for_the_study(opened: Opened, tokens: dict[str, str], studies: dict[str, str]) -> None:
    page = opened(f"studies/{studies['ordinary']}")
    sign_in(page, tokens["Dr House"])
    link = page.get_by_role("link", name="Open in OHIF")
    expect(link).to_have_attribute("href", "https://ohif.example.org/viewer?modeId=basic&StudyInstanceUIDs=1.2.3")
    page.goto(page.url.replace(studies["ordinary"], studies["words"]))
    expect(page.locator("#sent")).to_be_visible()
    expect(link).to_have_count(0)


# Every page and dialog --------------------------------------------------------------------------------------------


def _note(page: Page) -> None:
    page.locator("main .card:has(textarea), main .card").nth(1).get_by_role("button").last.click()
    page.locator("main .card").nth(2).get_by_role("button").first.click()


def _read(page: Page) -> None:
    page.keyboard.press("q")
    page.keyboard.press("y")
    page.locator(".reading .primary").click()
    expect(page.locator("#findings")).to_be_visible()
    page.keyboard.press("o")


def _compare(page: Page) -> None:
    page.locator(".strip-below button").last.click()
    expect(page.locator(".viewer.prior")).to_be_visible()


def _settings(page: Page) -> None:
    page.locator(".who button").first.click()
    expect(page.locator("dialog.settings")).to_be_visible()


def _by_hour(page: Page) -> None:
    told = page.locator(".rate svg").first.get_attribute("aria-label") or ""
    assert re.fullmatch(r"\d.*: \d+\s%", told), told
    page.locator(".segments input[value=hours]").press("Space")
    expect(page.locator(".rate svg").first).to_have_attribute("aria-label", re.compile(r":\d\d.*: \d+\s%"))


def _without_answers(page: Page) -> None:
    def nothing(route: Route) -> None:
        figures = route.fetch().json() | {"versions": [], "days": [], "hours": [], "stages": [], "agreement": []}
        route.fulfill(json=figures)

    page.route("**/v1/operations", nothing)
    page.reload()
    expect(page.locator("section:has(#rates) .empty")).to_be_visible()
    expect(page.locator("section:has(#versions) .empty")).to_be_visible()
    page.unroute("**/v1/operations")


def states(studies: dict[str, str]) -> dict[str, tuple[str, str, tuple[Callable[[Page], None], ...]]]:
    """The path of each page, what it shows once it is there, and what is done on it."""
    ordinary = f"studies/{studies['ordinary']}"
    return {
        "worklist": ("", "table.worklist", ()),
        "new": ("new", "main .card", (_note,)),
        "model": ("model", "#serves", ()),
        "operations": ("operations", "#deployment", (_by_hour,)),
        "no answers": ("operations", "#deployment", (_without_answers,)),
        "sessions": ("sessions", "main table", ()),
        "settings": ("", "table.worklist", (_settings,)),
        "first read": (ordinary, ".corner", ()),
        "side by side": (ordinary, ".corner", (_compare,)),
        "answer": (ordinary, ".corner", (_read,)),
        "no image": (f"studies/{studies['words']}", ".no-image", (_read,)),
        "refused": (f"studies/{studies['refused']}", "main [role=alert]", ()),
    }


def unreadable(page: Page, name: str, sizes: dict[int, str], rules: bool) -> Iterator[str]:
    """What is wrong with the page in windows of these widths, in these colours: axe's rules, and what is cut off."""
    for width, colours in sizes.items():
        page.emulate_media(forced_colors="active" if colours == "forced" else "none")
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate("theme => (document.documentElement.dataset.theme = theme)", colours)
        page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        yield from (f"{name}, {width} px, {colours}: {one}" for one in page.evaluate(LAYOUT))
        if rules and colours != "forced":
            for one in Axe().run(page, options={"runOnly": WCAG}).response["violations"]:
                yield f"{name}, {width} px, {colours}: {one['id']}: {[node['html'][:80] for node in one['nodes']]}"
    page.emulate_media(forced_colors="none")
    page.set_viewport_size({"width": 1500, "height": 900})


@pytest.mark.parametrize(("locale", "reader"), [("en-GB", "Dr House"), ("de-DE", "Dr Weber")])
def test_every_page_and_dialog_can_be_read_in_any_size_and_colours(
    opened: Opened, client: httpx.Client, tokens: dict[str, str], studies: dict[str, str], locale: str, reader: str
) -> None:
    """750 and 320 px are windows of 1500 and 1280 px at 200 and 400 %."""
    english = locale == "en-GB"
    sizes = {1500: "dark", 320: "light"} | ({750: "forced"} if english else {750: "dark"})
    page = opened(expected="status of 401", locale=locale)
    wrong = [*unreadable(page, "signing in", sizes, english)]
    sign_in(page, tokens[reader])
    for name, (path, there, steps) in states(studies).items():
        page.goto(re.sub("/read/.*", f"/read/{path}", page.url))
        expect(page.locator(there).first).to_be_visible()
        for step in steps:
            step(page)
        wrong += unreadable(page, name, sizes, english)
    page.emulate_media(media="print")
    wrong += unreadable(page, "printed", {700: "dark"}, False)
    page.emulate_media(media="screen")
    for session in client.get("/v1/sessions").json()["sessions"]:
        client.delete(f"/v1/sessions/{session['session_id']}")
    page.locator("header.top nav a").first.click()
    expect(page.locator("dialog.ended")).to_be_visible()
    wrong += unreadable(page, "session ended", sizes, english)
    assert not wrong, "\n".join(wrong)


# By keyboard alone ------------------------------------------------------------------------------------------------


def reach(page: Page, wanted: Locator) -> None:
    """Press Tab until `wanted` has the focus; on the way every focus is seen."""
    for _ in range(MOST_STOPS):
        if wanted.evaluate("one => one === document.activeElement"):
            return
        page.keyboard.press("Tab")
        assert page.evaluate(FOCUS) is None
    raise AssertionError(f"{wanted} was not reached")


def test_the_whole_flow_works_by_keyboard_with_the_focus_in_sight(
    opened: Opened, tokens: dict[str, str], studies: dict[str, str]
) -> None:
    page = opened()
    reach(page, page.get_by_label("API key"))
    page.keyboard.type(tokens["Dr Tab"])
    page.keyboard.press("Enter")
    expect(page.locator("table.worklist")).to_be_visible()
    reach(page, page.locator(f"a[href$='{studies['ordinary']}']"))
    page.keyboard.press("Enter")
    shows(page)

    reach(page, page.locator(".stage"))
    how = page.locator(".corner.bottom-left")
    expect(how).to_contain_text("Greys as the model reads them")
    page.keyboard.press("ArrowRight")
    expect(how).to_contain_text("Own window")
    before = page.locator(".corner.bottom-right").inner_text()
    page.keyboard.press("+")
    expect(page.locator(".corner.bottom-right")).not_to_have_text(before)
    page.keyboard.press("l")
    for key in ("Enter", "Shift+ArrowRight", "Enter"):
        page.keyboard.press(key)
    expect(page.locator(".measures [role=img]")).to_have_count(1)

    present, absent = (page.get_by_role("radio", name=name, exact=True).first for name in ("Present", "Absent"))
    for key in "qy":
        page.keyboard.press(key)
    expect(present).to_be_checked()
    page.keyboard.press("Backspace")
    expect(present).not_to_be_checked()
    for key in "qn":
        page.keyboard.press(key)
    reach(page, page.get_by_role("button", name="Record the first read"))
    page.keyboard.press("Enter")
    expect(page.locator("#findings")).to_be_visible()

    reach(page, page.get_by_role("button", name="Revise"))
    page.keyboard.press("Enter")
    reach(page, absent)
    page.keyboard.press("ArrowLeft")
    expect(present).to_be_checked()
    reach(page, page.get_by_role("button", name="Record the revised read"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Revised read")).to_be_visible()

    reach(page, page.locator("summary", has_text="Flag for review"))
    page.keyboard.press("Enter")
    reach(page, page.get_by_role("button", name="Flag", exact=True))
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").get_by_text("Flagged")).to_be_visible()

    settings = page.get_by_role("button", name="Settings")
    reach(page, settings)
    page.keyboard.press("Enter")
    reach(page, page.get_by_label("Colours"))
    page.keyboard.press("ArrowDown")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    page.keyboard.press("Escape")
    expect(settings).to_be_focused()
    reach(page, page.get_by_role("button", name="Sign out"))
    page.keyboard.press("Enter")
    expect(page.get_by_label("API key")).to_be_visible()
