"""What a model reads of an ECG: filtered samples, beats, amplitudes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from consilium.domain.errors import InputError
from consilium.domain.named_identifiers import named
from consilium.domain.study import Study
from consilium.domain.variables import BUILT_IN
from consilium.modalities.converter import condensed
from consilium.modalities.ecg.beat_encoder import PER_LEAD, BeatEncoder, amplitudes, average_beats
from consilium.modalities.ecg.beats import RHYTHM, read_beats
from consilium.modalities.ecg.ecg_converter import EcgConverter
from consilium.modalities.ecg.ecg_record import Ecg, Fault
from consilium.modalities.ecg.encoder import EcgEncoder, entry_of, parted
from consilium.modalities.ecg.paper import drawn
from consilium.modalities.ecg.preparation import EcgPreparation
from consilium.modalities.ecg.presentation import EcgEvidence
from consilium.modalities.ecg.section import EcgSection
from consilium.modalities.ecg.typicality import TYPICALITY
from consilium.modalities.image.image_record import Image
from consilium.modalities.part import MASK
from tests.consilium.modalities.ecg.made import csv, read, steps, wfdb

SECTION = EcgSection(rate=250, width=8)


def _ecg(samples: np.ndarray, rate: float = 500) -> Ecg:
    return Ecg(samples.astype(np.float32), rate, "0" * 64, "csv")


def _sine(hertz: float, seconds: float, rate: float = 500) -> np.ndarray:
    return np.tile(np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate), (12, 1))


@pytest.mark.parametrize("rate", [125, 250, 257, 500, 1000])
def test_what_lies_in_the_band_keeps_height_and_time_at_every_rate(rate: float) -> None:
    found = EcgConverter(SECTION)(_ecg(_sine(8, 20, rate), rate))
    assert found.shape == (12, 2500)
    np.testing.assert_allclose(found, _sine(8, 10, 250), atol=0.03)


@pytest.mark.parametrize(("hertz", "most"), [(0.1, 0.05), (50, 0.02), (60, 0.02)])
def test_drift_and_mains_are_taken_out(hertz: float, most: float) -> None:
    found = EcgConverter(SECTION)(_ecg(_sine(hertz, 20)))
    assert np.abs(found[:, 500:-500]).max() < most


def test_the_middle_of_a_long_recording_is_read() -> None:
    samples = np.zeros((12, 15_000))
    samples[:, 7500:7505] = 1.0
    convert = EcgConverter(SECTION)
    record = _ecg(samples)
    assert convert.start(record) == 10
    assert np.abs(convert(record)).argmax(axis=1).tolist() == pytest.approx([1251] * 12, abs=2)


def test_a_short_recording_ends_where_it_ends() -> None:
    found = EcgConverter(SECTION)(_ecg(_sine(8, 4)))
    assert np.isfinite(found[:, :1000]).all()
    assert np.isnan(found[:, 1000:]).all()


def test_a_missing_lead_is_missing() -> None:
    samples = _sine(8, 10)
    samples[4] = np.nan
    found = EcgConverter(SECTION)(_ecg(samples))
    assert np.isnan(found).all(axis=1).tolist() == [row == 4 for row in range(12)]


def test_unknown_voltages_are_read_at_a_common_size_unless_the_recipe_says_what_they_are() -> None:
    record = replace(_ecg(3 * _sine(8, 20)), faults=(Fault.GAINS,))
    scaled = EcgConverter(SECTION)(record)
    twice = EcgConverter(SECTION)(replace(record, samples=2 * record.samples))
    np.testing.assert_allclose(scaled, twice, atol=1e-4)
    assert np.percentile(np.abs(scaled), 98) == pytest.approx(1, abs=0.02)
    as_microvolts = EcgConverter(EcgSection(wrong_gains="microvolts"))(record)
    assert as_microvolts.max() == pytest.approx(3, abs=0.1)


def test_wrong_gains_are_referred_unless_the_recipe_says_what_they_are() -> None:
    record = read(wfdb(steps(), gains=[f"{200 + 40 * i}/mV" for i in range(12)]))
    checks = {}
    for way in ("scaled", "microvolts"):
        part = _part(EcgSection(wrong_gains=way), record)
        checks[way] = TYPICALITY.checks["ecg_voltages"](part)
    assert checks["microvolts"] == ()
    assert len(checks["scaled"]) == 1
    assert checks["scaled"][0].startswith("The ECG: the gains of the file are wrong")


def test_a_file_without_gains_is_referred_and_read_at_a_common_size() -> None:
    files = [wfdb(scale * steps(), gains=["0/mV"] * 12) for scale in (1, 4)]
    for way in ("scaled", "microvolts"):
        section = EcgSection(wrong_gains=way)
        one, other = (EcgConverter(section)(read(data)) for data in files)
        np.testing.assert_allclose(one, other, atol=1e-4)
        assert len(TYPICALITY.checks["ecg_voltages"](_part(section, read(files[0])))) == 1


def test_traces_without_voltages_fit_their_rows_of_paper() -> None:
    """Of a recorder of 24 bits, whose integers are a thousand times as many."""
    wrong = [f"{200_000 + 40_000 * i}/mV" for i in range(12)]
    one, two, *_, chest = np.split(1000 * steps(), [1, 2, 6])
    limb = [one, two, two - one, -(one + two) // 2, one - two // 2, two - one // 2]
    record = read(wfdb(np.vstack([*limb, chest]), form=24, gains=wrong))
    evidence = EcgEvidence(0, 0.0, 0.2, {"II": (0.0,) * 50}, 0.0)
    drawing = drawn(record, evidence, 1.0)
    heights = [float(point.split()[1]) - drawing["rows"][0]["middle"] for point in _points(drawing)]
    assert not drawing["voltages"]
    assert 5 < np.abs(heights).max() < 60


def test_ecgs_of_other_dicom_studies_and_orders_go_with_the_images_of_a_patient() -> None:
    own = {"study_digest": "a", "accession_digest": "b", "patient_digest": "p"}
    image = Image(np.zeros((4, 4), np.uint16), "0" * 64, "dicom", **own)
    ecg = replace(read(csv(steps())), study_digest="c", accession_digest="d", patient_digest="p")
    other = replace(ecg, study_digest="e", accession_digest="f")
    both = Study({"ecg": (ecg, other), "image": (image,)})
    assert [named(both, name) for name in ("study_digest", "accession_digest")] == ["a", "b"]
    assert named(Study({"ecg": (ecg,)}), "study_digest") == "c"
    assert named(Study({"ecg": (ecg, other)}), "study_digest") is None
    with pytest.raises(InputError, match="must all be of one patient"):
        Study({"ecg": (replace(ecg, patient_digest="q"),), "image": (image,)})


def _points(drawing: Mapping[str, Any]) -> list[str]:
    path: str = drawing["rows"][0]["path"]
    return path.removeprefix("M").split("L")


def test_what_was_converted_where_it_was_decoded_is_used() -> None:
    record, convert = read(csv(steps())), EcgConverter(SECTION)
    light = condensed(record, [convert])
    assert convert(light) is light.converted[convert.key]
    np.testing.assert_array_equal(convert(light), convert(record))
    np.testing.assert_array_equal(light.samples, record.samples)


@pytest.mark.parametrize(("fast", "minute"), [(-2, 52.3), (0, 72), (2, 99.2)])
def test_beats_are_found_at_their_rate(fast: float, minute: float) -> None:
    samples = EcgConverter(SECTION)(read(csv(steps(3, evidence=(fast, 0, 0, 0)))))
    peaks, rhythm = read_beats(samples, 250)
    intervals = np.diff(peaks[peaks > 0]) / 250
    assert 60 / intervals.mean() == pytest.approx(minute, rel=0.04)
    assert rhythm[RHYTHM.index("interval")] == pytest.approx(2 * np.log(60 / minute / 0.8), abs=0.1)


def test_an_irregular_rhythm_is_told_from_a_regular_one() -> None:
    regular = read_beats(EcgConverter(SECTION)(read(csv(steps(1)))), 250)[1]
    rng, samples = np.random.default_rng(0), np.zeros((12, 2500))
    for place in np.cumsum(rng.uniform(100, 300, 11)).astype(int):
        samples[:, place : place + 10] = np.hanning(10)
    irregular = read_beats(samples.astype(np.float32), 250)[1]
    column = RHYTHM.index("change")
    assert regular[column] < 0.5
    assert irregular[column] > 1.5


@pytest.mark.parametrize("samples", [np.full((12, 2500), np.nan), np.zeros((12, 2500)), np.ones((12, 2500))])
def test_nothing_has_no_beats(samples: np.ndarray) -> None:
    peaks, rhythm = read_beats(samples.astype(np.float32), 250)
    assert (peaks == -1).all()
    assert (rhythm == 0).all()


def test_amplitudes_are_those_that_were_drawn() -> None:
    beats = torch.zeros(1, 1, 12, 200)
    beats[..., 75] = 1.2  # R, 0.3 s after the beginning
    beats[..., 85] = -0.4  # S
    beats[..., 107:120] = 0.1  # ST
    beats[..., 145] = -0.3  # T
    found = dict(zip(PER_LEAD, amplitudes(beats, 250)[0, 0, 0].tolist(), strict=True))
    assert found == pytest.approx({"r": 1.2, "s": -0.4, "st": 0.1, "t": -0.3})


def test_the_average_beat_is_the_mean_of_those_at_the_peaks() -> None:
    samples = torch.randn(1, 1, 12, 1000, generator=torch.Generator().manual_seed(0))
    peaks = torch.tensor([[[100, 500, -1]]])
    found = average_beats(samples, peaks, 250)
    torch.testing.assert_close(found, (samples[..., 25:225] + samples[..., 425:625]) / 2)
    assert (average_beats(samples, torch.full((1, 1, 3), -1), 250) == 0).all()


def _part(section: EcgSection, *records: Ecg) -> object:
    preparation = EcgPreparation.fit(section, [], BUILT_IN)
    study = Study({"ecg": tuple(replace(record, time=None) for record in records)})
    return preparation.prepare(study, study)


def _batch(*studies: tuple[Ecg, ...]) -> dict[str, torch.Tensor]:
    preparation = EcgPreparation.fit(SECTION, [], BUILT_IN)
    found = [Study({"ecg": records}) for records in studies]
    return preparation.collate([preparation.prepare(study, study) for study in found])


@pytest.mark.parametrize("kind", ["network", "beats"])
def test_a_study_without_an_ecg_has_no_token_and_changes_no_other(kind: str) -> None:
    torch.manual_seed(0)
    encoder = (EcgEncoder(SECTION, 16) if kind == "network" else BeatEncoder(250)).eval()
    first, second = read(csv(steps(1))), read(csv(steps(2)))
    alone, among = encoder(_batch((first,))), encoder(_batch((), (first,), (first, second)))
    tokens = alone.mask.shape[1]
    assert tokens == (41 if kind == "network" else 1)
    assert among.mask.sum(dim=1).tolist() == [0, tokens, 2 * tokens]
    torch.testing.assert_close(among.values[1, :tokens], alone.values[0], rtol=1e-4, atol=1e-5)
    assert not encoder(_batch(())).mask.any()


def test_a_missing_lead_is_no_flat_lead() -> None:
    torch.manual_seed(0)
    encoder = EcgEncoder(SECTION, 16).eval()
    record = read(csv(steps(1)))
    there, gone = record.samples.copy(), record.samples.copy()
    there[6], gone[6] = 0, np.nan
    inputs = _batch((replace(record, samples=there),), (replace(record, samples=gone),))
    found = encoder(inputs | {"there": torch.tensor([[[True] * 12], [[True] * 6 + [False] + [True] * 5]])})
    assert (found.values[0] - found.values[1]).abs().max() > 1e-3


def test_what_explanations_differentiate_is_what_is_read() -> None:
    encoder = BeatEncoder(250)
    inputs = _batch((read(csv(steps(1))),))
    tokens, entry = encoder.traced(inputs)
    assert entry is not None
    torch.testing.assert_close(entry, entry_of(inputs))
    # Amplitudes grow in proportion with the samples, and so add up to gradient times samples.
    (slope,) = torch.autograd.grad(tokens.values.sum(), entry)
    torch.testing.assert_close((slope * entry).sum(), tokens.values.sum(), rtol=1e-3, atol=1e-3)
    samples, rhythm = parted(entry)
    assert samples.shape == (1, 1, 12, 2500)
    assert rhythm.shape == (1, 1, len(RHYTHM))
    assert inputs[MASK].all()
