"""Pictures of the demo's report and Secondary Capture for the documentation: `make picture`, after `make demo`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright
from pydicom import dcmread

REPORT, PICTURE = Path("var/demo/report.html"), Path("docs/report.png")
CAPTURE, CAPTURE_PICTURE = Path("var/demo/capture.dcm"), Path("docs/dicom-capture.png")
WIDTH, MARGIN = 1180, 8
"""Pixels; the picture ends this far under the card of `LAST`."""
LAST = ".panel:not([hidden]) .viewer"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


def main() -> int:
    chromium = shutil.which("chromium")
    if chromium is None or not REPORT.exists() or not CAPTURE.exists():
        print(f"needs chromium, and {REPORT} and {CAPTURE}, which `make demo` writes", file=sys.stderr)
        return 2
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": WIDTH, "height": 1000}, color_scheme="light")
        page.goto(REPORT.resolve().as_uri())
        height = page.evaluate(f"document.querySelector('{LAST}').closest('.card').getBoundingClientRect().bottom")
        page.screenshot(path=PICTURE, full_page=True, clip={"x": 0, "y": 0, "width": WIDTH, "height": height + MARGIN})
        browser.close()
    Image.fromarray(dcmread(CAPTURE).pixel_array).save(CAPTURE_PICTURE, optimize=True)
    print(PICTURE, CAPTURE_PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
