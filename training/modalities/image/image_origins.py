"""Where images came from: what their files say of machine, format and size, and what was burned into them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product
from types import MappingProxyType

from consilium.domain.errors import InputError
from consilium.domain.study import Study
from consilium.modalities.image.image_record import Image, ViewPosition
from consilium.modalities.image.letterbox import Letterbox
from training.cohorts.cohort import StudyRecord
from training.data.cached_cohort import CachedCohort
from training.modalities.image.file_facts import FileFacts, read_file_facts
from training.training_side import Row

GROUPS: Mapping[str, str] = MappingProxyType(
    {
        "device": "the device",
        "format": "the file format",
        "size": "the image's size and pixel spacing",
        "compression": "the file's compression",
        "markers": "burned-in markers",
        "view": "the view position",
    }
)
"""What each group of features is called in a sentence."""

_NAME = "image"
_CORNER = 0.15
"""Share of an image's side that a corner takes."""
_SATURATED = 0.99 * 65535


def image_origins(cached: CachedCohort) -> Mapping[str, Sequence[Row]]:
    """Features by group; of a study with several images, the first that could be decoded speaks."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for record, study in zip(cached.cohort.records, cached.studies, strict=True):
        seen = next(iter(study.parts[_NAME]), None)
        facts = _file_facts(cached, record, study)
        rows["source"].append({"institution": facts.institution if facts else None})
        rows["device"].append(_named("device", facts.device if facts else ()))
        rows["format"].append({"source": seen and seen.source, "encoding": facts and facts.encoding})
        rows["size"].append(_size(seen))
        rows["compression"].append(_compression(seen, facts))
        rows["markers"].append(_markers(seen, cached))
        rows["missingness"].append(_filled(study.parts[_NAME]))
        rows["view"].append({"view": seen and seen.view.value, "laterality": seen and seen.laterality})
    return rows


def _filled(images: Sequence[Image]) -> Row:
    return {
        "images": float(len(images)),
        "acquired": float(any(image.acquired is not None for image in images)),
        "view": float(any(image.view is not ViewPosition.UNKNOWN for image in images)),
    }


def _file_facts(cached: CachedCohort, record: StudyRecord, study: Study) -> FileFacts | None:
    """Of the first image; None where the study has none, or its file can no longer be read."""
    root = cached.cohort.root
    files = record.files[_NAME]
    usable = [file for file in files if file.path.relative_to(root).as_posix() not in cached.refused]
    if not study.parts[_NAME] or not usable:
        return None
    try:
        return read_file_facts(usable[0].path)
    except InputError:
        return None


def _named(name: str, parts: Sequence[str]) -> Row:
    return {f"{name}_{number}": part or None for number, part in enumerate(parts)}


def _size(image: Image | None) -> Row:
    if image is None:
        return {}
    rows, columns = image.shape
    spacing = image.pixel_spacing
    return {
        "rows": float(rows),
        "columns": float(columns),
        "aspect": rows / columns,
        "has_spacing": float(spacing is not None),
        "spacing": math.nan if spacing is None else spacing[0],
    }


def _compression(image: Image | None, facts: FileFacts | None) -> Row:
    if image is None or facts is None:
        return {}
    bits = 8 * facts.size / math.prod(image.shape)
    return {"bits_per_pixel": round(bits, 1), "lossy": math.nan if facts.lossy is None else facts.lossy}


def _markers(image: Image | None, cached: CachedCohort) -> Row:
    """What the file says of burned-in annotation, and how much of each corner is as white as a marker is."""
    if image is None:
        return {}
    burned_in = {None: math.nan, False: 0.0, True: 1.0}[image.burned_in]
    square = cached.array(_NAME, image)
    box = Letterbox(*image.shape, len(square))
    (top, left), (height, width) = box.offset, box.inner
    inner = square[top : top + height, left : left + width]
    high, wide = max(1, round(height * _CORNER)), max(1, round(width * _CORNER))
    white: Row = {"burned_in": burned_in}
    for vertical, horizontal in product((slice(high), slice(-high, None)), (slice(wide), slice(-wide, None))):
        white[f"corner_{len(white)}"] = round(float((inner[vertical, horizontal] >= _SATURATED).mean()), 3)
    return white
