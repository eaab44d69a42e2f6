"""What a model reads of a sound: its spectrogram, its cycle, features of both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers.audio_utils import mel_filter_bank
from transformers.audio_utils import spectrogram as reference_spectrogram

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import InputError
from consilium.domain.study import Study
from consilium.domain.variables import BUILT_IN
from consilium.modalities.audio.band_groups import GROUPS, group_edges, group_hertz
from consilium.modalities.audio.cycle import CYCLE, read_cycle
from consilium.modalities.audio.drawing import drawn, played
from consilium.modalities.audio.encoder import AudioEncoder, entry_of, parted
from consilium.modalities.audio.feature_encoder import PER_GROUP, FeatureEncoder, features_of
from consilium.modalities.audio.preparation import AudioPreparation
from consilium.modalities.audio.presentation import SoundEvidence
from consilium.modalities.audio.section import AudioSection
from consilium.modalities.audio.sound_converter import SoundConverter
from consilium.modalities.audio.sound_record import Sound
from consilium.modalities.audio.spectrogram import Spectrogram, mel_edges
from consilium.modalities.audio.typicality import TYPICALITY
from consilium.modalities.converter import condensed
from consilium.modalities.part import MASK
from tests.consilium.modalities.audio.made import beats, read, wav
from tests.consilium.tiny import tiny_recipe

SECTION = AudioSection(width=4, bands=16, hop_ms=20)
CONVERT = SoundConverter(SECTION)


def _sound(samples: np.ndarray, rate: float = 2000) -> Sound:
    return Sound(samples.astype(np.float32), rate, "0" * 64, "wav")


def _tone(hertz: float, seconds: float, rate: float = 2000) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def test_the_spectrogram_is_that_of_an_independent_library() -> None:
    """Of transformers, but for the window, which is a symmetric one here, and the floor."""
    samples = beats() / 32768
    own = Spectrogram(2000, 25, 900, 16, 80, 40)
    bank = mel_filter_bank(own.length // 2 + 1, 16, 25, 900, 2000, norm=None, mel_scale="htk")
    np.testing.assert_allclose(own.weights(), bank.T, atol=1e-9)
    reference = reference_spectrogram(
        samples, np.hanning(82)[1:-1], 80, 40, fft_length=own.length, power=2.0, center=False, mel_filters=bank
    )
    found = own(samples)
    assert found.shape == reference.shape
    np.testing.assert_allclose(np.exp(found) - 1e-5 * np.mean(reference), reference, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rate", [2000, 4000, 8000, 11_025, 44_100])
def test_a_tone_stands_in_its_band_at_every_rate(rate: float) -> None:
    middles = mel_edges(SECTION.low_hz, SECTION.high_hz, SECTION.bands)[1:-1]
    for band in (3, 8, 13):
        spectra = CONVERT(_sound(_tone(middles[band], 12, rate), rate))
        assert np.isfinite(spectra).all()
        assert (spectra.argmax(axis=0) == band).all()


def test_loudness_means_nothing() -> None:
    sound = read(wav())
    np.testing.assert_allclose(CONVERT(replace(sound, samples=sound.samples * 7)), CONVERT(sound), atol=1e-3)


def test_the_middle_of_a_long_sound_is_read() -> None:
    samples = np.random.default_rng(0).normal(size=2000 * 40) * 0.01
    samples[40_000:40_200] += _tone(100, 0.1)
    record = _sound(samples)
    assert CONVERT.start(record) == 15
    loudest = CONVERT(record).mean(axis=0).argmax() * CONVERT.step
    assert loudest == pytest.approx(5, abs=0.1)


def test_a_short_sound_ends_where_it_ends() -> None:
    found = CONVERT(_sound(_tone(100, 4)))
    frames = CONVERT.spectrogram.frames(8000)
    assert np.isfinite(found[:, :frames]).all()
    assert np.isnan(found[:, frames:]).all()


def test_what_lies_outside_the_band_is_nothing() -> None:
    noise = 1e-2 * np.random.default_rng(0).normal(size=20_000)
    both = _sound(noise + 10 * _tone(3, 10))
    np.testing.assert_allclose(CONVERT(both)[:, 30:-30], CONVERT(_sound(noise))[:, 30:-30], atol=0.1)


def test_a_sound_outside_the_band_says_nothing() -> None:
    assert "sound between 25 and 900 Hz" in CONVERT.fault(np.full(CONVERT.shape, np.nan))
    assert CONVERT.fault(CONVERT(read(wav()))) == ""


def test_what_was_converted_where_it_was_decoded_is_used() -> None:
    record = read(wav())
    light = condensed(record, [CONVERT])
    assert CONVERT(light) is light.converted[CONVERT.key]
    np.testing.assert_array_equal(CONVERT(light), CONVERT(record))


@pytest.mark.parametrize(
    ("section", "word"),
    [
        ({"high_hz": 1000}, "0.48 of rate"),
        ({"low_hz": 500}, "twice low_hz"),
        ({"hop_ms": 80}, "hop_ms"),
        ({"bands": 4}, "greater than or equal to 8"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(section: dict[str, float], word: str) -> None:
    with pytest.raises(InputError, match=word):
        tiny_recipe(modalities={"audio": section})


def test_a_recipe_may_read_coughs() -> None:
    recipe: Recipe = tiny_recipe(modalities={"audio": {"rate": 16_000, "high_hz": 7000, "bands": 128, "window_ms": 25}})
    weights = SoundConverter(recipe.modalities["audio"]).spectrogram.weights()
    assert (weights.sum(axis=1) > 0).all()


@pytest.mark.parametrize(("fast", "minute"), [(-2, 52.3), (0, 72), (2, 99.2)])
def test_cycles_are_found_at_their_rate(fast: float, minute: float) -> None:
    for seed in range(4):
        cycle = read_cycle(CONVERT(read(wav(beats(seed, evidence=(fast, 0, 0, 0))))), CONVERT.step)
        interval = 0.8 * np.exp(cycle[CYCLE.index("interval")] / 2)
        assert 60 / interval == pytest.approx(minute, rel=0.06)


def test_noise_does_not_repeat_and_beats_do() -> None:
    noise = CONVERT(_sound(np.random.default_rng(0).normal(size=20_000)))
    column = CYCLE.index("regularity")
    assert read_cycle(noise, CONVERT.step)[column] < -0.3
    assert read_cycle(CONVERT(read(wav())), CONVERT.step)[column] > 0
    assert (read_cycle(np.full((16, 500), np.nan, np.float32), 0.02) == 0).all()


def test_features_are_those_of_loudness_over_time() -> None:
    spectra = torch.zeros(8, 100)
    spectra[2, :20], spectra[2, 20:40], spectra[2, 40:] = -1.0, 2.0, 0.5
    there = torch.ones(100, dtype=torch.bool)
    found = dict(zip(PER_GROUP, features_of(spectra, there)[2].tolist(), strict=True))
    assert found == pytest.approx({"mean": 0.5, "quiet": -1.5, "loud": 1.5, "change": 4.5 / 99})
    longer = torch.cat([spectra, torch.full((8, 30), 9.0)], dim=1)
    known = torch.cat([there, torch.zeros(30, dtype=torch.bool)])
    torch.testing.assert_close(features_of(longer, known), features_of(spectra, there))
    assert (features_of(longer, torch.zeros(130, dtype=torch.bool)) == 0).all()


@pytest.mark.parametrize("bands", [8, 13, 32, 128])
def test_groups_of_bands_cover_all_of_them(bands: int) -> None:
    edges, hertz = group_edges(bands), group_hertz(25, 900, bands)
    assert (edges[0], edges[-1], len(edges)) == (0, bands, GROUPS + 1)
    assert np.diff(edges).min() >= 1
    assert (hertz[0], hertz[-1]) == (25, 900)
    assert np.diff(hertz).min() > 0


def _part(*records: Sound) -> object:
    study = Study({"audio": records})
    return AudioPreparation.fit(SECTION, [], BUILT_IN).prepare(study, study)


def _batch(*studies: tuple[Sound, ...]) -> dict[str, torch.Tensor]:
    preparation = AudioPreparation.fit(SECTION, [], BUILT_IN)
    found = [Study({"audio": records}) for records in studies]
    return preparation.collate([preparation.prepare(study, study) for study in found])


def test_a_rate_too_low_for_the_band_is_referred() -> None:
    low = _sound(_tone(100, 10, 1000), 1000)
    assert TYPICALITY.checks["sound_band"](_part(low)) == (
        "The sound: it was recorded at a rate too low for the frequencies that the model reads.",
    )
    assert TYPICALITY.checks["sound_band"](_part(read(wav()))) == ()
    assert TYPICALITY.checks["sound_quality"](_part(low)) == ()


@pytest.mark.parametrize("kind", ["network", "features"])
def test_a_study_without_a_sound_has_no_token_and_changes_no_other(kind: str) -> None:
    torch.manual_seed(0)
    encoder = (AudioEncoder(SECTION, 16) if kind == "network" else FeatureEncoder(16)).eval()
    first, second = read(wav(beats(1))), read(wav(beats(2)))
    alone, among = encoder(_batch((first,))), encoder(_batch((), (first,), (first, second)))
    places, tokens = alone.mask.shape[1], int(alone.mask.sum())
    # Of 10 s the model reads 8 s of sound: a token for each 0.32 s, and one for the cycle.
    assert tokens == (26 if kind == "network" else 1)
    assert among.mask.sum(dim=1).tolist() == [0, tokens, 2 * tokens]
    torch.testing.assert_close(among.values[1, :places], alone.values[0], rtol=1e-4, atol=1e-5)
    assert not encoder(_batch(())).mask.any()


def test_what_explanations_differentiate_is_what_is_read() -> None:
    encoder = FeatureEncoder(16)
    inputs = _batch((read(wav()),))
    tokens, entry = encoder.traced(inputs)
    assert entry is not None
    torch.testing.assert_close(entry, entry_of(inputs))
    # Features grow in proportion with the spectra, and so add up to gradient times spectra.
    (slope,) = torch.autograd.grad(tokens.values.sum(), entry)
    torch.testing.assert_close((slope * entry).sum(), tokens.values.sum(), rtol=1e-3, atol=1e-3)
    spectra, cycle = parted(entry, 16)
    assert spectra.shape == (1, 1, *CONVERT.shape)
    assert cycle.shape == (1, 1, len(CYCLE))
    assert inputs[MASK].all()


def _evidence(**changed: object) -> SoundEvidence:
    given = {"sound": 0, "start": 1.0, "step": 0.2, "hertz": (25.0, 100.0, 900.0), "cycle": 0.5}
    bands = ((1.0, 0.0, -0.5, 0.0, 0.0), (0.01, 0.0, 0.0, 0.0, 0.25))
    return SoundEvidence(**{**given, "bands": bands, **changed})  # type: ignore[arg-type]


def test_evidence_is_drawn_where_and_when_it_sounds() -> None:
    drawing = drawn(_sound(_tone(100, 8)), _evidence(), 1.0)
    cells = [(cell["x"], cell["y"], cell["for"], cell["opacity"]) for cell in drawing["cells"]]
    # Too faint a cell is left out; high frequencies stand above, 64 points a second behind the names.
    assert cells == [(60, 74, True, 0.75), (85.6, 74, False, 0.38), (111.2, 56, True, 0.19)]
    assert (drawing["seconds"], drawing["width"]) == (1.0, 124)
    assert drawing["picture"].startswith("data:image/png;base64,")
    assert [label["text"] for label in drawing["labels"]] == ["25 Hz", "100 Hz", "900 Hz"]


def test_what_is_played_is_what_is_read() -> None:
    record = _sound(0.01 * (_tone(100, 8, 8000) + 5 * _tone(5, 8, 8000) + 5 * _tone(2000, 8, 8000)), 8000)
    rate, samples = played(record, _evidence(), 2.0)
    assert (rate, len(samples)) == (4000, 8000)
    np.testing.assert_allclose(samples, 0.9 * _tone(100, 2, 4000), atol=2e-2)
    assert drawn(record, _evidence(bands=((1.0,) * 200,) * 2), 1.0)["audio"]
    long = _sound(_tone(100, 80))
    assert drawn(long, _evidence(bands=((1.0,) * 200,) * 2), 1.0)["audio"] == ""
