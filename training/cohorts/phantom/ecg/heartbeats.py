"""A twelve-lead ECG from evidence and nuisance: P, QRS and T as bells, beat after beat."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import numpy.typing as npt

from consilium.modalities.ecg.files.signals import LEADS

RATE, SECONDS = 200, 10
CHANNELS = ("rate", "qrs", "voltage", "st")
_STEPS_MILLIVOLT = 200
_BEATS_MINUTE, _RATE_SPREAD = 72.0, 0.16
_QRS_SECONDS, _QRS_SPREAD = 0.035, 0.22
_VOLTAGE_SPREAD = 0.3
_ST_MILLIVOLTS = 0.06
_NOISE = 0.02

_INDEPENDENT = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
_WAVES = {
    #        seconds, width,  I,    II,    V1,   V2,   V3,   V4,   V5,   V6
    "p": (-0.16, 0.022, 0.08, 0.13, 0.06, 0.07, 0.08, 0.08, 0.08, 0.08),
    "r": (0.0, 0.0, 0.60, 0.95, 0.20, 0.45, 0.80, 1.20, 1.15, 0.90),
    "s": (0.04, 0.0, -0.12, -0.15, -0.75, -0.95, -0.70, -0.35, -0.15, -0.08),
    "t": (0.27, 0.05, 0.18, 0.25, -0.05, 0.25, 0.32, 0.32, 0.28, 0.20),
}
"""When after R, how wide, how high in each lead, millivolts. The width of R and S is evidence."""
_ST_LEADS = np.array([0.5, 1.0, -0.2, 0.3, 0.5, 0.7, 0.7, 0.6])


def draw_ecg(evidence: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """Stored integers [12, T] of one recording.

    Parameters
    ----------
    evidence : float64 [4]
        `CHANNELS`: how fast the heart beats, how broad QRS is, how small the voltages are, how high ST lies.
    rng : Generator
        Nuisance: where the first beat is, how the beats vary, how large each lead's waves are, drift and noise.
    """
    fast, broad, small, raised = evidence
    interval = 60 / (_BEATS_MINUTE * np.exp(_RATE_SPREAD * fast))
    breadth = _QRS_SECONDS * np.exp(_QRS_SPREAD * broad) / 2
    size = np.exp(-_VOLTAGE_SPREAD * small)
    count = int(np.ceil((SECONDS + 2) / interval)) + 2
    beats = np.cumsum(interval * (1 + 0.03 * rng.normal(size=count))) - rng.uniform(0, interval) - interval
    shapes = 1 + 0.08 * rng.normal(size=(len(_WAVES), len(_INDEPENDENT)))
    times = np.arange(RATE * SECONDS) / RATE
    leads = np.zeros((len(_INDEPENDENT), len(times)))
    since = times[None] - beats[:, None]  # [beats, T]
    for (after, width, *heights), own in zip(_WAVES.values(), shapes, strict=True):
        delay, spread = (after * np.exp(_QRS_SPREAD * broad), breadth) if width == 0 else (after, width)
        bells = np.exp(-0.5 * ((since - delay) / spread) ** 2).sum(axis=0)
        leads += size * (np.array(heights) * own)[:, None] * bells
    plateau = (_rise(since - 0.08, 0.012) * _rise(0.2 - since, 0.02)).sum(axis=0)
    leads += _ST_MILLIVOLTS * raised * _ST_LEADS[:, None] * plateau
    phases = rng.uniform(0, 2 * np.pi, size=(2, len(_INDEPENDENT), 1))
    leads += 0.05 * np.sin(2 * np.pi * 0.25 * times + phases[0]) + 0.01 * np.sin(2 * np.pi * 50 * times + phases[1])
    leads += _NOISE * rng.normal(size=leads.shape)
    steps = np.rint(_STEPS_MILLIVOLT * leads)
    one, two = steps[:2]
    limb = [one, two, two - one, -np.rint((one + two) / 2), np.rint(one - two / 2), np.rint(two - one / 2)]
    return np.clip(np.stack([*limb, *steps[2:]]), -32767, 32767).astype(np.int16)


def _rise(since: npt.NDArray[np.float64], width: float) -> npt.NDArray[np.float64]:
    """From 0 to 1 around 0."""
    return 0.5 * (1 + np.tanh(since / (2 * width)))


def as_wfdb(steps: npt.NDArray[np.int16]) -> bytes:
    """A zip archive of a WFDB record of format 16; the same bytes for the same integers."""
    lines = [f"ecg {len(LEADS)} {RATE} {steps.shape[1]}"]
    lines += [
        f"ecg.dat 16 {_STEPS_MILLIVOLT}(0)/mV 16 0 {row[0]} {int(row.sum(dtype=np.int64)) % 65536} 0 {lead}"
        for lead, row in zip(LEADS, steps, strict=True)
    ]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo("ecg.hea"), "\n".join(lines) + "\n")
        archive.writestr(zipfile.ZipInfo("ecg.dat"), steps.T.astype("<i2").tobytes())
    return packed.getvalue()
