"""What the image files that a model learned from say they show, and what another file says that they did not.

A model of chest films has an answer for a knee, too. Where the file says that it is one, the reader is warned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from consilium.modalities.image.image_record import Image

_LEAST_SHARE = 0.01
"""Share of the training images that say something from which a model counts as trained on it: fewer are slips."""


_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Origins:
    """What the files of the training images say, counted.

    Attributes
    ----------
    images : int
    modality, body_part : dict of str to int
        Images by what their files say, most frequent first; those that say nothing are left out.
    for_processing : int
        Images that are FOR PROCESSING.
    """

    images: int = 0
    modality: Mapping[str, int] = field(default_factory=dict)
    body_part: Mapping[str, int] = field(default_factory=dict)
    for_processing: int = 0

    @classmethod
    def of(cls, images: Iterable[Image]) -> Origins:
        origins = [image.origin for image in images]
        return cls(
            len(origins),
            _counted(origin.modality for origin in origins),
            _counted(origin.body_part for origin in origins),
            sum(origin.for_processing for origin in origins),
        )

    def unknown(self, images: Sequence[Image]) -> tuple[str, ...]:
        """Declarations of `images` that training images did not have; none where those declared nothing."""
        found = []
        for number, image in enumerate(images):
            for name, value, known in (
                ("modality", image.origin.modality, self.modality),
                ("body part", image.origin.body_part, self.body_part),
            ):
                least = _LEAST_SHARE * sum(known.values())
                if value and known and known.get(value, 0) < least:
                    learned = ", ".join([one for one, count in known.items() if count >= least][:_SHOWN])
                    found.append(f"images[{number}]: {name} {value}; this model was trained on {learned}")
            if image.origin.for_processing and self.for_processing < max(1, _LEAST_SHARE * self.images):
                found.append(f"images[{number}]: FOR PROCESSING; this model was not trained on such files")
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        return {
            "images": self.images,
            "modality": dict(self.modality),
            "body_part": dict(self.body_part),
            "for_processing": self.for_processing,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Origins:
        return cls(**data)


def _counted(value: Iterable[str]) -> dict[str, int]:
    return dict(Counter(filter(None, value)).most_common())
