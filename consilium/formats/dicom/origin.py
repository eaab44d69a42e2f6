"""Origin: what an image's file says that it shows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """What an image's file says that it shows; empty where it says nothing.

    Attributes
    ----------
    modality : str
        DICOM Modality (0008,0060): ``DX``.
    body_part : str
        Body Part Examined (0018,0015): ``CHEST``.
    for_processing : bool
        Presentation Intent Type (0008,0068) is FOR PROCESSING: detector values, not a picture to be read.
    """

    modality: str = ""
    body_part: str = ""
    for_processing: bool = False
