"""The phantom's ECGs carry their evidence, obey the limb leads' laws, and change nothing of the other modalities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from consilium.modalities.ecg.beats import RHYTHM, read_beats
from consilium.modalities.ecg.ecg_converter import EcgConverter
from consilium.modalities.ecg.records import read_ecg
from consilium.modalities.ecg.section import EcgSection
from training.cohorts.phantom.ecg.heartbeats import CHANNELS, as_wfdb, draw_ecg
from training.cohorts.phantom.ecg.phantom import EcgPhantom
from training.cohorts.phantom.write import write_phantom

SECTION = EcgSection()


def _measured(channel: str, height: float) -> float:
    """What of an ECG with this evidence grows with it, mean over a few."""
    found = []
    for seed in range(6):
        evidence = np.array([height if name == channel else 0.0 for name in CHANNELS])
        record = read_ecg(as_wfdb(draw_ecg(evidence, np.random.default_rng(seed))))
        samples = EcgConverter(SECTION)(record)
        peaks, rhythm = read_beats(samples, SECTION.rate)
        beats = np.mean([samples[:, peak - 75 : peak + 125] for peak in peaks[peaks > 0]], axis=0)
        beats = beats - beats[:, 50:60].mean(axis=1, keepdims=True)
        figures = {
            "rate": -rhythm[RHYTHM.index("interval")],
            "qrs": rhythm[RHYTHM.index("qrs")],
            "voltage": -beats[1].max(),
            "st": beats[1, 107:118].mean(),
        }
        found.append(figures[channel])
    return float(np.mean(found))


@pytest.mark.parametrize("channel", CHANNELS)
def test_every_channel_can_be_read_from_the_record(channel: str) -> None:
    low, middle, high = (_measured(channel, height) for height in (-2, 0, 2))
    assert low < middle < high
    assert tuple(EcgPhantom.shifts) == CHANNELS


def test_limb_leads_obey_their_laws_but_for_rounding() -> None:
    rows = draw_ecg(np.zeros(4), np.random.default_rng(1)).astype(int)
    np.testing.assert_array_equal(rows[2], rows[1] - rows[0])
    assert np.abs(rows[3:6].sum(axis=0)).max() <= 2


def test_an_ecg_changes_no_byte_of_the_others(tmp_path: Path) -> None:
    for name, more in (("without", ()), ("with", ("ecg",))):
        write_phantom(tmp_path / name, 6, 11, 64, workers=1, modalities=("text", "observations", *more))
    one, other = ((tmp_path / name / "observations.csv").read_bytes() for name in ("without", "with"))
    assert one == other
    tables = [pd.read_csv(tmp_path / name / "studies.csv") for name in ("without", "with")]
    pd.testing.assert_frame_equal(tables[0], tables[1].drop(columns="ecg"))
    written = {f"ecg/{path.name}" for path in (tmp_path / "with" / "ecg").iterdir()}
    assert written == set(tables[1]["ecg"].dropna())
    assert len(written) >= 4
