"""ECGs in a cohort folder: paths in ``studies.csv``.

- ``ecg``: relative paths joined by ``;``: DICOM waveforms, zip archives of a WFDB record, CSV, or the header (.hea) of
  a WFDB record whose signal files lie beside it.
"""

from __future__ import annotations

from training.modalities.path_columns import PathColumns


class EcgColumns(PathColumns):
    """Reads the column of ECGs."""

    column, files = "ecg", "ecgs"
