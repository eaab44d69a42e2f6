"""The documentation site: ``make docs``. Warnings are errors there, so a link that leads nowhere fails the build."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from consilium import __version__  # noqa: E402

project = "Consilium"
author = "The Consilium authors"
copyright = "2026, the Consilium authors"  # noqa: A001
version = release = __version__

extensions = ["myst_parser"]
myst_heading_anchors = 4
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"Consilium {__version__}"
html_extra_path = ["reference/generated/openapi.json"]
html_show_sphinx = False
pygments_style = "friendly"
# JSON of requests is abridged with ... in places, and CSV has no lexer.
suppress_warnings = ["misc.highlighting_failure"]
