"""The demo model's card as a page of the documentation: ``python scripts/model_card.py``, after ``make demo``.

``python scripts/model_card.py FILE`` takes a card that lies elsewhere.
"""

from __future__ import annotations

import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "measured" / "model-card.md"
MODEL = "models:/consilium-phantom-demo@champion"
_INTRODUCTION = f"""\
*The card that `make demo` writes of its model, `{MODEL}`; `make card` puts it here. Each training writes
one: as a page with plots for `GET /v1/model/card`, and as this text.*
"""


def card_text(source: Path | None) -> str:
    """The card in `source`, or that of the registered model."""
    if source is None:
        from consilium.artifacts.model_registry import resolve

        source = resolve(MODEL).folder / "card.md"
    return source.read_text(encoding="utf-8")


def page(card: str) -> str:
    """The card with an introduction below its title."""
    title, _, rest = card.partition("\n")
    return f"{title}\n\n{_INTRODUCTION}\n{rest.strip()}\n"


if __name__ == "__main__":
    PAGE.write_text(page(card_text(Path(sys.argv[1]) if len(sys.argv) > 1 else None)), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
