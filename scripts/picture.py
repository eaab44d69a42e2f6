"""A picture of the demo's report for the README: `make picture`, after `make demo`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

REPORT = Path("var/demo/report.html")
PICTURE = Path("docs/report.png")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


def main() -> int:
    chromium = shutil.which("chromium")
    if chromium is None or not REPORT.exists():
        print(f"needs chromium and {REPORT}, which `make demo` writes", file=sys.stderr)
        return 2
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1180, "height": 1480})
        page.goto(REPORT.resolve().as_uri())
        page.screenshot(path=PICTURE)
        browser.close()
    print(PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
