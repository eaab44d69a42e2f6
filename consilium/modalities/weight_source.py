"""WeightSource: where pretrained weights came from, by digest and licence. No torch here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from consilium.domain.errors import RecipeError

NOT_STATED = "not stated"
OWN = "own"
"""Of weights that were trained by whoever trains with them, which nobody licences to them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightSource:
    """Pretrained weights that a model begins from.

    Attributes
    ----------
    architecture : str
        ``efficientnet-lite0``, or the class of a Hugging Face model.
    source : str
        Hub id, name of a folder or file, or name and version of a package.
    sha256 : str
        Of the file that holds them, in hex; of a list of the files with their digests where there are several.
    licence : str
        As their publisher or whoever imported them states it, preferably an SPDX identifier; ``not stated``; or
        ``own`` of encoders that `consilium pretrain` made.
    """

    architecture: str
    source: str
    sha256: str
    licence: str = NOT_STATED

    def to_json(self) -> dict[str, str]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> WeightSource:
        """Read what `to_json` gave; `TypeError` for other keys."""
        return cls(**{key: str(value) for key, value in data.items()})


def require_licences(sources: Mapping[str, Collection[WeightSource]], allowed: Collection[str] | None) -> None:
    """`RecipeError` where the weights of a modality have a licence that is not among the `allowed`; None: any may be.

    Case does not matter. Encoders of one's own need no licence; what these began from is among the `sources`, too.
    """
    if allowed is None:
        return
    known = {OWN, *(licence.casefold() for licence in allowed)}
    for modality, of in sources.items():
        for source in of:
            if source.licence.casefold() not in known:
                whose = f"is the licence of the {modality} weights from {source.source}"
                rule = f"{whose}; the recipe allows {', '.join(allowed) or 'none'}"
                raise RecipeError("weights_licences", source.licence, rule)
