"""Options that every benchmark has."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def read_options(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None, **smoke: object
) -> argparse.Namespace:
    """The options in `arguments` (the command's unless given); with ``--smoke`` what is not given is as in `smoke`."""
    parser.add_argument("--smoke", action="store_true", help="as small as can be, for seconds: only whether it runs")
    if parser.parse_args(arguments).smoke:
        parser.set_defaults(**smoke)
    return parser.parse_args(arguments)
