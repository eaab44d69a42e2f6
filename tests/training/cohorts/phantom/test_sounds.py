"""The phantom's sounds carry their evidence, and change nothing of the other modalities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from consilium.modalities.audio.cycle import CYCLE, read_cycle
from consilium.modalities.audio.records import read_sound
from consilium.modalities.audio.section import AudioSection
from consilium.modalities.audio.sound_converter import SoundConverter
from training.cohorts.phantom.audio.heart_sounds import CHANNELS, RATE, as_wav, draw_heart_sound
from training.cohorts.phantom.audio.phantom import AudioPhantom
from training.cohorts.phantom.state import load_states
from training.cohorts.phantom.write import write_phantom


def _second(samples: np.ndarray, interval: float) -> np.ndarray:
    """The mean beat's envelope from 0.2 s behind its first sound on, the first sound's maximum being 1."""
    envelope = np.convolve(np.abs(samples), np.ones(20) / 20, "same")
    period = round(interval * RATE)
    starts = range(0, len(samples) - 2 * period, period)
    firsts = [place + int(envelope[place : place + period].argmax()) for place in starts]
    beats = np.mean([envelope[first : first + round(0.5 * RATE)] for first in firsts], axis=0)
    return np.asarray(beats[round(0.2 * RATE) :] / beats[0])


def _measured(channel: str, height: float) -> float:
    """What of a sound with this evidence grows with it, mean over a few."""
    found, convert = [], SoundConverter(AudioSection())
    for seed in range(6):
        evidence = np.array([height if name == channel else 0.0 for name in CHANNELS])
        # A loud second sound would be taken for the first, so that of half its loudness is split.
        evidence[CHANNELS.index("second")] -= channel in ("split", "second")
        words = draw_heart_sound(evidence, np.random.default_rng(seed))
        spectra = convert(read_sound(as_wav(words)))
        cycle = read_cycle(spectra, convert.step)
        second = _second(words.astype(float), 0.8 * np.exp(cycle[CYCLE.index("interval")] / 2))
        figures = {
            "rate": -cycle[CYCLE.index("interval")],
            "murmur": np.subtract(*np.nanpercentile(spectra[8:16].mean(axis=0), [75, 20])),
            "split": (second > 0.5 * second.max()).sum(),
            "second": second.max(),
        }
        found.append(figures[channel])
    return float(np.mean(found))


@pytest.mark.parametrize("channel", CHANNELS)
def test_every_channel_can_be_read_from_the_record(channel: str) -> None:
    low, middle, high = (_measured(channel, height) for height in (-2, 0, 2))
    assert low < middle < high
    assert tuple(AudioPhantom.shifts) == CHANNELS


def test_the_oracle_knows_the_evidence_exactly() -> None:
    phantom, states = AudioPhantom(), load_states()
    readings = np.array([[0.3, -1.2, 2.0, 0.1], [0.0, 0.0, 0.0, 0.0]])
    found = phantom.log_likelihood(readings, states)
    expected = -0.5 * ((readings[:, None] - phantom.means) ** 2).sum(axis=2) + 0.5 * (readings**2).sum(axis=1)[:, None]
    np.testing.assert_allclose(found, expected)
    assert set(np.unique(phantom.means)) == {0.0, 1.4}


def test_a_sound_changes_no_byte_of_the_others(tmp_path: Path) -> None:
    for name, more in (("without", ()), ("with", ("audio",))):
        write_phantom(tmp_path / name, 6, 11, 64, workers=1, modalities=("text", "observations", *more))
    one, other = ((tmp_path / name / "observations.csv").read_bytes() for name in ("without", "with"))
    assert one == other
    tables = [pd.read_csv(tmp_path / name / "studies.csv") for name in ("without", "with")]
    pd.testing.assert_frame_equal(tables[0], tables[1].drop(columns="sounds"))
    written = {f"sounds/{path.name}" for path in (tmp_path / "with" / "sounds").iterdir()}
    assert written == set(tables[1]["sounds"].dropna())
    assert len(written) >= 4
