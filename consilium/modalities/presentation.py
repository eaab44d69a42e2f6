"""Presentation: how a modality's attributions are shown to readers and sent to callers.

A modality names one by reference in its declaration. It needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from consilium.domain.study import Study
from consilium.modalities.registry import find_modality, in_order
from consilium.system.installed import load


def _as_sent(attribution: Any, pictures: bool) -> Any:
    del pictures
    return attribution


def _as_read(sent: Any) -> Any:
    return sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Presentation:
    """How the attributions of one modality are shown and sent.

    Attributes
    ----------
    wire : type
        Of one attribution as it is sent: a pydantic model or a `consilium.domain.wire.WireValue`.
    write : callable
        (attribution, with pictures) → what is sent.
    read : callable
        What was sent → attribution.
    template : str
        ``package:file`` of the Jinja template of its card on the report; it sees `card` (what `cards` gave) and `tab`,
        the finding that is explained.
    cards : callable
        (study, attributions of each explained finding) → what the template shows of each finding; None: no card.
    information : type or None
        Of what ``GET /v1/model`` says of the modality, which its preparation's `information` gives.
    column : str
        Where on the page the card stands; pictures stand left.
    unit : str
        What is weighed, in the plural, as a row of the terminal's table is called: ``words``.
    rows : callable
        Attributions of one finding → name and log-odds of each that the terminal lists.
    """

    wire: Any
    template: str
    cards: Callable[[Study, Sequence[tuple[Any, ...]]], Sequence[Mapping[str, Any] | None]]
    unit: str
    rows: Callable[[Sequence[Any]], list[tuple[str, float]]]
    write: Callable[[Any, bool], Any] = _as_sent
    read: Callable[[Any], Any] = _as_read
    information: Any = None
    column: Literal["left", "right"] = "right"


def presentations(modalities: Iterable[str]) -> dict[str, Presentation]:
    """Those of `modalities` that declare one, in order."""
    references = {name: find_modality(name).presentation for name in in_order(modalities)}
    return {name: load(reference) for name, reference in references.items() if reference}
