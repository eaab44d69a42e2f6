"""What can be wrong with a volume that is read all the same."""

from __future__ import annotations

from enum import StrEnum


class Fault(StrEnum):
    """What is wrong with a volume."""

    GAPS = "gaps"
    DISTANCES = "distances"
    UNITS = "units"
    ORIENTATION = "orientation"
    BLANK = "blank"


SENTENCES = {
    Fault.GAPS: "slices are missing and were filled in between their neighbours",
    Fault.DISTANCES: "the distance of the slices changes; the longest stretch of one distance was read",
    Fault.UNITS: "the values are not known to be Hounsfield units",
    Fault.ORIENTATION: "the file does not say reliably how the volume lies in the patient, or which side is left",
    Fault.BLANK: "all voxels are alike",
}
