"""A picture of the demo's report for the README: `make picture`, after `make demo`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

REPORT = Path("var/demo/report.html")
PICTURE = Path("docs/report.png")
WIDTH, MARGIN = 1180, 8
"""Pixels; the picture ends this far under the card of `LAST`."""
LAST = ".panel:not([hidden]) .viewer"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


def main() -> int:
    chromium = shutil.which("chromium")
    if chromium is None or not REPORT.exists():
        print(f"needs chromium and {REPORT}, which `make demo` writes", file=sys.stderr)
        return 2
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": WIDTH, "height": 1000}, color_scheme="light")
        page.goto(REPORT.resolve().as_uri())
        height = page.evaluate(f"document.querySelector('{LAST}').closest('.card').getBoundingClientRect().bottom")
        page.screenshot(path=PICTURE, full_page=True, clip={"x": 0, "y": 0, "width": WIDTH, "height": height + MARGIN})
        browser.close()
    print(PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
