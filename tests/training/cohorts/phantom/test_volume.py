"""The phantom's volumes carry their evidence where its truth says, and change nothing of the other modalities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from consilium.modalities.volume.records import read_volume
from training.cohorts.phantom.volume.phantom import FINDING_OF, VolumePhantom
from training.cohorts.phantom.volume.scan import CHANNELS, SHAPE, as_nifti, draw_volume, places
from training.cohorts.phantom.write import write_phantom
from training.modalities.volume.volume_truth import VolumeTruth


def scan(channel: str, height: float, seed: int) -> np.ndarray:
    evidence = np.array([height if name == channel else 0.0 for name in CHANNELS])
    return draw_volume(evidence, np.random.default_rng(seed)).astype(float)


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_channel_shows_where_the_truth_has_it_and_nowhere_else(channel: str) -> None:
    assert tuple(VolumePhantom.shifts) == CHANNELS
    for seed in range(4):
        where = places(np.random.default_rng(seed))[CHANNELS.index(channel)]
        change = scan(channel, 2, seed) - scan(channel, 0, seed)
        assert 20 < where.sum() < 200
        assert change[where].min() > 20
        far = np.abs(np.argwhere(change > 1) - np.argwhere(where).mean(axis=0)).max()
        assert far < 12
        assert scan(channel, -1, seed)[where].mean() < scan(channel, 0, seed)[where].mean()


def test_a_scan_is_read_as_it_was_drawn() -> None:
    drawn = draw_volume(np.zeros(4), np.random.default_rng(1))
    record = read_volume(as_nifti(drawn))

    np.testing.assert_array_equal(record.voxels, drawn)
    assert record.faults == ()
    assert record.grid.spacing == (8, 8, 8)
    assert as_nifti(drawn) == as_nifti(drawn)


def test_a_volume_changes_no_byte_of_the_others(tmp_path: Path) -> None:
    for name, more in (("without", ()), ("with", ("volume",))):
        write_phantom(tmp_path / name, 6, 11, 64, workers=1, modalities=("text", "observations", *more))
    one, other = ((tmp_path / name / "observations.csv").read_bytes() for name in ("without", "with"))
    assert one == other
    tables = [pd.read_csv(tmp_path / name / "studies.csv") for name in ("without", "with")]
    pd.testing.assert_frame_equal(tables[0], tables[1].drop(columns="volumes"))
    written = {f"volumes/{path.name}" for path in (tmp_path / "with" / "volumes").iterdir()}
    assert written == set(tables[1]["volumes"].dropna())
    assert len(written) >= 4
    masks = VolumeTruth(tmp_path / "with").masks("S000000")
    assert {name: mask.shape for name, mask in masks.items()} == dict.fromkeys(FINDING_OF.values(), SHAPE)
