"""Sounds in a cohort folder: paths in ``studies.csv``.

- ``sounds``: relative paths joined by ``;``: WAV, FLAC or DICOM audio.
"""

from __future__ import annotations

from training.modalities.path_columns import PathColumns


class SoundColumns(PathColumns):
    """Reads the column of sounds."""

    column = files = "sounds"
