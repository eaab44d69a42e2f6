"""ECGs are read right, or refused with field, value and rule."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from consilium.domain.errors import InputError, TooLarge, UnsupportedMedia
from consilium.modalities.ecg.ecg_record import Fault, ecg_warnings
from consilium.modalities.ecg.files.signals import LEADS
from consilium.modalities.ecg.files.wfdb_header import pack
from consilium.modalities.registry import default_limits
from tests.conftest import ROOT
from tests.consilium.modalities.ecg.made import csv, encoded, header, packed, read, steps, waveform, wfdb

ROWS = steps()
MILLIVOLTS = ROWS / 200
LUDB = ROOT.parent / "shared" / "data" / "ecg-ludb"


# --- what is right ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(wfdb(ROWS, form=16), id="wfdb 16"),
        pytest.param(wfdb(ROWS, form=212), id="wfdb 212"),
        pytest.param(wfdb(ROWS, form=24), id="wfdb 24"),
        pytest.param(waveform(ROWS), id="dicom"),
        pytest.param(waveform(ROWS, big=True), id="dicom, big endian"),
        pytest.param(csv(ROWS), id="csv"),
    ],
)
def test_every_kind_of_file_gives_the_millivolts_of_all_leads(data: bytes) -> None:
    ecg = read(data)
    assert ecg.samples.dtype == np.float32
    np.testing.assert_allclose(ecg.samples, MILLIVOLTS, atol=1e-6)
    assert (ecg.rate, ecg.seconds, ecg.faults, ecg.warnings) == (200, 10, (), ())


def test_an_odd_number_of_samples_of_format_212_is_read() -> None:
    rows = ROWS[:3, :1001]
    np.testing.assert_allclose(read(wfdb(rows, form=212, names=LEADS[:3])).samples[:3], rows / 200, atol=1e-6)


def test_the_sample_of_pydicom_is_read_as_pydicom_reads_it() -> None:
    path = get_testdata_file("waveform_ecg.dcm", download=False)
    assert path is not None
    expected = pydicom.dcmread(path).waveform_array(0)
    ecg = read(Path(path).read_bytes())
    np.testing.assert_allclose(ecg.samples, expected.T / 1000, atol=1e-5)
    assert ecg.rate == 1000
    assert ecg.patient_digest is not None
    assert "1 more multiplex groups are not read" in ecg.warnings


def test_times_are_those_of_the_file() -> None:
    expected = datetime(2024, 3, 5, 10, 20, 30)
    assert read(wfdb(ROWS)).time == expected
    assert read(waveform(ROWS)).time == expected
    assert read(csv(ROWS)).time is None


def test_leads_have_a_standard_order_whatever_their_order_and_names() -> None:
    order = np.random.default_rng(1).permutation(12)
    names = [{"II": "MDC_ECG_LEAD_II", "aVR": "avr", "V1": "lead v1"}.get(LEADS[i], LEADS[i]) for i in order]
    ecg = read(waveform(ROWS[order], names=names))
    np.testing.assert_allclose(ecg.samples, MILLIVOLTS, atol=1e-6)


def test_a_lead_with_a_minus_is_turned_over() -> None:
    rows = ROWS.copy()
    rows[3] *= -1
    np.testing.assert_allclose(read(csv(rows, names=[*LEADS[:3], "-aVR", *LEADS[4:]])).samples, MILLIVOLTS, atol=1e-6)


@pytest.mark.parametrize("pair", [("I", "II"), ("I", "III"), ("II", "aVF"), ("aVR", "aVL")])
def test_limb_leads_are_derived_from_two_others(pair: tuple[str, str]) -> None:
    rows = [LEADS.index(lead) for lead in pair]
    ecg = read(csv(ROWS[rows], names=pair))
    np.testing.assert_allclose(ecg.samples[:6], MILLIVOLTS[:6], atol=0.03)
    assert set(ecg.derived) == set(LEADS[:6]) - set(pair)
    assert ecg.warnings == ("without the leads V1, V2, V3, V4, V5, V6",)


def test_one_lead_is_enough() -> None:
    ecg = read(csv(ROWS[1:2], names=["MLII"]))
    np.testing.assert_allclose(ecg.samples[1], MILLIVOLTS[1], atol=1e-6)
    assert np.isnan(np.delete(ecg.samples, 1, axis=0)).all()


def test_the_rate_may_follow_from_times() -> None:
    table = csv(ROWS[:2], names=LEADS[:2], head="").decode().splitlines()
    timed = [f"time_ms,{table[0]}", *(f"{5 * i},{line}" for i, line in enumerate(table[1:]))]
    assert read("\n".join(timed).encode()).rate == pytest.approx(200)


def test_times_may_be_rounded_where_the_rate_is_stated() -> None:
    table = csv(ROWS[:1], names=LEADS[:1], head="").decode().splitlines()
    timed = [f"time_s,{table[0]}", *(f"{i / 256:.3f},{line}" for i, line in enumerate(table[1:]))]
    ecg = read(("# rate: 256 Hz\n" + "\n".join(timed)).encode())
    assert ecg.rate == 256
    np.testing.assert_allclose(ecg.samples[0], MILLIVOLTS[0], atol=1e-6)


def test_comments_above_a_header_may_be_of_any_language() -> None:
    ecg = read(packed({"r.hea": "# Åre …\n".encode() + header(ROWS), "r.dat": encoded(ROWS, 16)}))
    np.testing.assert_allclose(ecg.samples, MILLIVOLTS, atol=1e-6)


def test_a_channel_of_dicom_that_begins_behind_the_end_is_left_out() -> None:
    file = pydicom.dcmread(io.BytesIO(waveform(ROWS)))
    file.WaveformSequence[0].ChannelDefinitionSequence[7].ChannelSampleSkew = "99999"
    out = io.BytesIO()
    file.save_as(out)
    ecg = read(out.getvalue())
    assert np.isnan(ecg.samples[7]).all()
    assert "lead V2 left out: without a sample in a unit of voltage" in ecg.warnings


def test_units_are_converted() -> None:
    micro = csv(ROWS * 1000, head="# rate: 200\n# unit: uV\n")
    np.testing.assert_allclose(read(micro).samples, MILLIVOLTS, atol=1e-6)
    volts = wfdb(ROWS, gains=["200000(0)/V"] * 12)
    np.testing.assert_allclose(read(volts).samples, MILLIVOLTS, atol=1e-6)


def test_skew_is_taken_out() -> None:
    late = ROWS.copy()
    late[7, 3:] = ROWS[7, :-3]
    written = header(late).decode().splitlines()
    written[8] = written[8].replace(" 16 ", " 16:3 ", 1)
    ecg = read(packed({"r.hea": "\n".join(written).encode(), "r.dat": encoded(late, 16)}))
    np.testing.assert_allclose(ecg.samples[7, :-3], MILLIVOLTS[7, :-3], atol=1e-6)


def test_baselines_count() -> None:
    ecg = read(wfdb(ROWS + 1024, gains=["200(1024)/mV"] * 12))
    np.testing.assert_allclose(ecg.samples, MILLIVOLTS, atol=1e-6)


def test_missing_samples_are_read_as_the_line_between() -> None:
    rows = ROWS.copy()
    rows[6, 500:510] = -32768
    ecg = read(wfdb(rows))
    assert np.isfinite(ecg.samples).all()
    expected = np.interp(np.arange(500, 510), [499, 510], MILLIVOLTS[6, [499, 510]])
    np.testing.assert_allclose(ecg.samples[6, 500:510], expected, atol=1e-6)
    assert "lead V1: missing samples are read as the line between their neighbours" in ecg.warnings


def test_a_lead_that_is_mostly_missing_is_left_out() -> None:
    rows = ROWS.copy()
    rows[6, 500:] = -32768
    ecg = read(wfdb(rows))
    assert np.isnan(ecg.samples[6]).all()
    assert "lead V1 left out: more than half of its samples are missing" in ecg.warnings


def test_other_signals_are_left_out() -> None:
    rows, names = np.vstack([ROWS, ROWS[:1]]), [*LEADS, "pleth"]
    ecg = read(wfdb(rows, names=names))
    assert ecg.warnings == ("signal 13 left out: it is none of the twelve standard leads",)


def test_a_checksum_that_does_not_fit_is_warned_of() -> None:
    other = ROWS.copy()
    other[2, 7] += 1
    ecg = read(packed({"r.hea": header(ROWS), "r.dat": encoded(other, 16)}))
    assert ecg.warnings == ("lead 3: the samples do not have the checksum that the header states",)


# --- what is refused -------------------------------------------------------------------------------------------------


def _zip(**changed: object) -> bytes:
    return wfdb(ROWS, **changed)  # type: ignore[arg-type]


def _timed(step: float, gap: float = 0.0) -> bytes:
    """Two leads that say 200 Hz, with times of `step` times as much, and a pause in their middle."""
    table = csv(ROWS[:2], names=LEADS[:2], head="").decode().splitlines()
    times = [i / 200 * step + gap * (i > 1000) for i in range(ROWS.shape[1])]
    lines = [f"time_s,{table[0]}", *(f"{time:.3f},{line}" for time, line in zip(times, table[1:], strict=True))]
    return ("# rate: 200 Hz\n" + "\n".join(lines)).encode()


def _damaged() -> bytes:
    data = packed({"r.hea": header(ROWS), "r.dat": encoded(ROWS, 16)}, zipfile.ZIP_DEFLATED)
    place = data.index(b"r.dat") + 5
    return data[:place] + b"\xff" * 50 + data[place + 50 :]


BROKEN: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "file"),
    "XML": (lambda: b"<?xml version='1.0'?><AnnotatedECG/>", "file"),
    "picture": (lambda: b"\x89PNG\r\n\x1a\n", "file"),
    "binary": (lambda: b"abc\0def", "file"),
    "not UTF-8": (lambda: b"# rate: 500\nI\n\xff\xfe", "file"),
    "names alone": (lambda: b"I,II,III\n", "file"),
    "rate missing": (lambda: csv(ROWS, head=""), "rate"),
    "rate 0": (lambda: csv(ROWS, head="# rate: 0 Hz\n"), "rate"),
    "rate is text": (lambda: csv(ROWS, head="# rate: fast\n"), "rate"),
    "rate is NaN": (lambda: csv(ROWS, head="# rate: nan\n"), "rate"),
    "rate is huge": (lambda: csv(ROWS, head="# rate: 1e9\n"), "rate"),
    "rate stated twice": (lambda: csv(ROWS, head="# rate: 200 Hz\n# rate: 500 Hz\n"), "rate"),
    "rate against times": (lambda: _timed(200 / 500), "rate"),
    "times with a gap": (lambda: _timed(1, gap=3.0), "rate"),
    "microvolts as millivolts": (lambda: csv(1000 * ROWS), "samples"),
    "volts as millivolts": (lambda: wfdb(ROWS, gains=["200000/mV"] * 12), "samples"),
    "unit unknown": (lambda: csv(ROWS, head="# rate: 200\n# unit: mmHg\n"), "unit"),
    "uneven row": (lambda: csv(ROWS) + b"1,2\n", r"row\[2000\]"),
    "no number": (lambda: csv(ROWS).replace(b"0.0", b"x.0", 1), r"row\["),
    "infinite": (lambda: csv(ROWS) + b",".join([b"inf"] * 12), "samples"),
    "beyond any electrode": (lambda: csv(ROWS) + b",".join([b"1e6"] * 12), "samples"),
    "all NaN": (lambda: b"# rate: 200\nI\n" + b"nan\n" * 2000, "leads"),
    "too short": (lambda: csv(ROWS[:, :300]), "samples"),
    "flat": (lambda: csv(np.zeros_like(ROWS)), "leads"),
    "unknown leads alone": (lambda: csv(ROWS[:2], names=["a", "b"]), "leads"),
    "a lead twice": (lambda: csv(ROWS[:2], names=["I", "DI"]), r"leads\[1\]"),
    "zip damaged": (_damaged, "zip"),
    "zip of bzip2": (lambda: packed({"r.hea": header(ROWS), "r.dat": b""}, zipfile.ZIP_BZIP2), "zip"),
    "zip of LZMA": (lambda: packed({"r.hea": header(ROWS), "r.dat": b""}, zipfile.ZIP_LZMA), "zip"),
    "zip cut": (lambda: _zip()[:3000], "zip"),
    "zip of nothing": (lambda: packed({"a.txt": b"a"}), "zip"),
    "two headers": (lambda: packed({"a.hea": header(ROWS), "b.hea": header(ROWS)}), "zip"),
    "signal file missing": (lambda: packed({"r.hea": header(ROWS)}), "zip"),
    "signal file short": (lambda: packed({"r.hea": header(ROWS), "r.dat": encoded(ROWS, 16)[:-2]}), "zip"),
    "two files of a name": (lambda: packed({"r.hea": header(ROWS), "a/r.dat": b"", "b/r.dat": b""}), "zip"),
    "header of rubbish": (lambda: packed({"r.hea": b"\xff" * 50, "r.dat": b""}), "header"),
    "header without a rate": (lambda: _zip(first="r 12"), "header.rate"),
    "header with rate 0": (lambda: _zip(rate="0"), "header.rate"),
    "more digits than a number has": (lambda: _zip(first="r 12 200 " + "9" * 5000), "header"),
    "a baseline beyond any": (lambda: _zip(gains=["200(" + "9" * 400 + ")/mV"] * 12), r"header.signals\[0\].gain"),
    "a first line that fits in many ways": (lambda: _zip(first="r 12 " + "a" * 1_000_000 + " !"), "header"),
    "no signal": (lambda: _zip(first="r 0 200 2000"), "header.signals"),
    "more signals than lines": (lambda: _zip(first="r 99 200 2000"), "header.signals"),
    "several segments": (lambda: _zip(first="r/2 12 200 2000"), "header"),
    "format unknown": (lambda: packed({"r.hea": header(ROWS, form="8"), "r.dat": b""}), r"header.signals\[0\].format"),
    "samples a frame": (
        lambda: packed({"r.hea": header(ROWS, form="16x2"), "r.dat": b""}),
        r"header.signals\[0\].format",
    ),
    "gain of rubbish": (lambda: _zip(gains=["x"] * 12), r"header.signals\[0\].gain"),
    "negative gain": (lambda: _zip(gains=["-200"] * 12), r"header.signals\[0\].gain"),
    "another folder": (lambda: _zip(dat="../../etc/passwd"), r"header.signals\[0\].file"),
    "unit of no voltage": (lambda: _zip(gains=["200/mmHg"] * 12), "leads"),
    "DICOM image": (lambda: waveform(ROWS, sop="1.2.840.10008.5.1.4.1.1.7"), "SOPClassUID"),
    "DICOM rate 0": (lambda: waveform(ROWS, SamplingFrequency="0"), "SamplingFrequency"),
    "DICOM data short": (lambda: waveform(ROWS, WaveformData=b"\0\0" * 100), "WaveformData"),
    "DICOM channels": (lambda: waveform(ROWS, NumberOfWaveformChannels=11), "NumberOfWaveformChannels"),
    "DICOM mu-law": (lambda: waveform(ROWS, WaveformSampleInterpretation="MB"), "WaveformSampleInterpretation"),
    "DICOM bits": (lambda: waveform(ROWS, WaveformBitsAllocated=8), "WaveformBitsAllocated"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_refused_by_field(name: str) -> None:
    make, field = BROKEN[name]
    with pytest.raises(InputError) as caught:
        read(make())
    assert re.match(rf"ecgs\[0\]\.{field}", caught.value.field), caught.value
    assert caught.value.rule.startswith("must ")


@pytest.mark.parametrize("make", [wfdb, csv, waveform], ids=["wfdb", "csv", "dicom"])
@pytest.mark.parametrize("tenth", range(10))
def test_a_file_cut_anywhere_is_refused_or_read_with_what_it_has(make: Callable[..., bytes], tenth: int) -> None:
    data = make(ROWS)
    cut = data[: len(data) * tenth // 10]
    if make is csv and tenth >= 3:
        # What is cut within a number reads as another number; the last line is one of those or is refused.
        whole = cut[: cut.rfind(b"\n") + 1]
        ecg = read(whole)
        np.testing.assert_allclose(ecg.samples, MILLIVOLTS[:, : ecg.samples.shape[1]], atol=1e-6)
        return
    with pytest.raises(InputError, match="ecgs"):
        read(cut)


def test_an_archive_that_inflates_beyond_the_limit_is_refused_before_it_is_held() -> None:
    bomb = packed({"r.hea": header(ROWS), "r.dat": b"\0" * 50_000_000}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 100_000
    with pytest.raises(TooLarge, match="once inflated"):
        read(bomb)


def test_archives_of_many_files_that_inflate_beyond_the_limit_together_are_refused() -> None:
    lines = "".join(f"{i}.dat 16 200/mV\n" for i in range(4))
    files = {f"{i}.dat": b"\0" * 9_000_000 for i in range(4)}
    with pytest.raises(TooLarge, match="together once inflated"):
        read(packed({"r.hea": f"r 4 200 2000\n{lines}".encode(), **files}, zipfile.ZIP_DEFLATED))


def test_one_lead_counts_as_the_twelve_that_its_recording_holds() -> None:
    limits = default_limits().but(ecg_samples=12 * ROWS.shape[1] - 1)
    with pytest.raises(TooLarge, match="12 leads of 2000 samples"):
        read(csv(ROWS[1:2], names=["II"]), limits)
    assert read(csv(ROWS[1:2], names=["II"]), limits.but(ecg_samples=12 * ROWS.shape[1])).seconds == 10


def test_a_column_name_that_fits_in_many_ways_is_read_at_once() -> None:
    names = ["t" + " " * 500_000 + "x", *LEADS[1:]]
    assert read(csv(ROWS, names=names)).warnings[0].startswith("signal 1 left out")


def test_a_declared_length_beyond_the_limit_is_refused_before_anything_is_read() -> None:
    with pytest.raises(TooLarge, match="12 leads of 9000000000 samples"):
        read(_zip(first="r 12 200 9000000000"))
    with pytest.raises(TooLarge):
        read(waveform(ROWS, NumberOfWaveformSamples=4_000_000_000))


def test_a_file_beyond_the_limit_is_refused() -> None:
    with pytest.raises(TooLarge):
        read(wfdb(ROWS), default_limits().but(ecg_bytes=1000))


def test_an_encrypted_archive_is_refused() -> None:
    data = bytearray(_zip())
    for start in (b"PK\x03\x04", b"PK\x01\x02"):
        place = data.find(start)
        while place >= 0:
            data[place + (6 if start[2] == 3 else 8)] |= 1
            place = data.find(start, place + 4)
    with pytest.raises(UnsupportedMedia, match="encrypted"):
        read(bytes(data))


# --- headers on disk -------------------------------------------------------------------------------------------------


def test_a_header_on_disk_brings_its_signal_files(tmp_path: Path) -> None:
    (tmp_path / "r.hea").write_bytes(header(ROWS))
    (tmp_path / "r.dat").write_bytes(encoded(ROWS, 16))
    sent = pack(tmp_path / "r.hea", 1 << 20)
    np.testing.assert_allclose(read(sent).samples, MILLIVOLTS, atol=1e-6)
    assert sent == pack(tmp_path / "r.hea", 1 << 20)


def test_a_header_on_disk_reaches_no_other_folder(tmp_path: Path) -> None:
    (tmp_path / "r.hea").write_bytes(header(ROWS, dat="../secret.dat"))
    with pytest.raises(InputError, match="beside the header"):
        pack(tmp_path / "r.hea", 1 << 20)


def test_a_link_beside_a_header_does_not_reach_another_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").write_bytes(encoded(ROWS, 16))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "r.hea").write_bytes(header(ROWS))
    (tmp_path / "own" / "r.dat").symlink_to(tmp_path / "elsewhere" / "secret")
    with pytest.raises(InputError, match="beside the header"):
        pack(tmp_path / "own" / "r.hea", 1 << 20)


def test_a_header_on_disk_with_large_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.hea").write_bytes(header(ROWS))
    (tmp_path / "r.dat").write_bytes(encoded(ROWS, 16))
    with pytest.raises(TooLarge):
        pack(tmp_path / "r.hea", 10_000)


# --- what is suspect -------------------------------------------------------------------------------------------------


def test_gains_that_are_wrong_are_named_and_the_integers_keep_the_ratios_of_the_leads() -> None:
    wrong = [f"{200 + 40 * i}({i})/mV" for i in range(12)]
    ecg = read(wfdb(ROWS, gains=wrong))
    assert ecg.faults == (Fault.GAINS,)
    levelled = ROWS - np.median(ROWS, axis=1, keepdims=True)
    np.testing.assert_allclose(ecg.samples, levelled * 1e-3, atol=1e-6)
    assert ecg_warnings([ecg])[0].startswith("ecgs[0]: the gains of the file are wrong")


def test_gains_that_are_all_wrong_alike_are_not_seen() -> None:
    """The limb leads tell of ratios alone."""
    assert read(wfdb(ROWS, gains=["400/mV"] * 12)).faults == ()


def test_limb_leads_that_contradict_each_other_without_integers_are_named() -> None:
    rows = ROWS.copy()
    rows[2] = ROWS[7]
    assert Fault.LIMB_LEADS in read(csv(rows)).faults


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([2, 1, 0, 3, 4, 5], id="I and III exchanged"),
        pytest.param([0, 1, 2, 4, 3, 5], id="aVR and aVL exchanged"),
        pytest.param([0, 2, 1, 3, 4, 5], id="II and III exchanged"),
    ],
)
def test_limb_leads_of_exchanged_names_are_named(rows: list[int]) -> None:
    """III = II - I and aVR + aVL + aVF = 0 hold with some of them exchanged; those that join the two do not."""
    assert Fault.LIMB_LEADS in read(csv(np.vstack([ROWS[rows], ROWS[6:]]))).faults


def test_augmented_leads_that_are_all_twice_too_high_are_named() -> None:
    rows = ROWS.copy()
    rows[3:6] *= 2
    assert Fault.LIMB_LEADS in read(csv(rows)).faults
    assert Fault.LIMB_LEADS in read(csv(rows[[0, 1, 3]], names=["I", "II", "aVR"])).faults
    assert read(csv(ROWS[[0, 1, 3]], names=["I", "II", "aVR"])).faults == ()


def test_a_file_without_gains_has_no_voltages() -> None:
    for gain in ("0/mV", "0(0)/mV"):
        ecg = read(wfdb(ROWS, gains=[gain] * 12))
        assert ecg.faults == (Fault.NO_GAINS,)
        assert ecg_warnings([ecg]) == ["ecgs[0]: the file does not state the gains; voltages are not known"]


def test_swapped_electrodes_are_named() -> None:
    one, two, three = ROWS[:3]
    for first, second in ((-one, three), (-three, -two)):
        limb = [first, second, second - first, -(first + second) // 2, first - second // 2, second - first // 2]
        assert Fault.REVERSED in read(csv(np.vstack([limb, ROWS[6:]]))).faults
    assert read(csv(ROWS)).faults == ()


def test_a_flat_lead_is_left_out_and_named() -> None:
    rows = ROWS.copy()
    rows[9] = 3
    ecg = read(csv(rows))
    assert ecg.faults == (Fault.FLAT,)
    assert np.isnan(ecg.samples[9]).all()


def test_a_clipped_lead_is_named() -> None:
    rows = ROWS.copy()
    rows[8] = np.minimum(rows[8], 60)
    assert Fault.CLIPPED in read(csv(rows)).faults


@pytest.mark.parametrize("line", [50, 60])
def test_mains_hum_is_named(line: int) -> None:
    hum = np.rint(60 * np.sin(2 * np.pi * line * np.arange(ROWS.shape[1]) / 200)).astype(np.int64)
    assert Fault.MAINS in read(csv(ROWS + hum)).faults


def test_ludb_has_wrong_gains_in_every_header() -> None:
    if not (LUDB / "data" / "1.hea").is_file():
        pytest.skip("LUDB is not here")
    for number in range(1, 21):
        ecg = read(pack(LUDB / "data" / f"{number}.hea", 1 << 20))
        assert Fault.GAINS in ecg.faults
        assert ecg.warnings == ()
