"""ECGs and their files as other software writes them, for the tests."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, TwelveLeadECGWaveformStorage

from consilium.formats.limits import Limits
from consilium.modalities.ecg.ecg_record import Ecg
from consilium.modalities.ecg.files.signals import LEADS
from consilium.modalities.ecg.records import read_ecg
from consilium.modalities.registry import default_limits
from training.cohorts.phantom.ecg.heartbeats import draw_ecg

RATE = 200


def steps(seed: int = 0, *, evidence: Sequence[float] = (0, 0, 0, 0)) -> npt.NDArray[np.int64]:
    """Integers of a twelve-lead ECG of 10 s, 200 steps a millivolt."""
    return draw_ecg(np.array(evidence, float), np.random.default_rng(seed)).astype(np.int64)


def read(data: bytes, limits: Limits | None = None) -> Ecg:
    return read_ecg(data, field="ecgs[0]", limits=limits or default_limits())


def packed(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return out.getvalue()


def encoded(rows: npt.NDArray[np.int64], form: int) -> bytes:
    """Samples as formats 16, 212 and 24 store them, written as WFDB's signal(5) describes, byte by byte."""
    flat = [int(x) for x in rows.T.ravel()]
    if form == 16:
        return b"".join(x.to_bytes(2, "little", signed=True) for x in flat)
    if form == 24:
        return b"".join(x.to_bytes(3, "little", signed=True) for x in flat)
    out = bytearray()
    for first, second in zip(flat[::2], [*flat[1::2], 0], strict=False):
        one, two = first & 0xFFF, second & 0xFFF
        out += bytes([one & 0xFF, (one >> 8) | ((two >> 8) << 4), two & 0xFF])
    return bytes(out)


def header(
    rows: npt.NDArray[np.int64],
    *,
    form: str = "16",
    rate: str = str(RATE),
    gains: Sequence[str] | None = None,
    names: Sequence[str] = LEADS,
    first: str | None = None,
    dat: str = "r.dat",
) -> bytes:
    lines = [first if first is not None else f"r {len(rows)} {rate} {rows.shape[1]} 10:20:30 05/03/2024"]
    for number, (row, name) in enumerate(zip(rows, names, strict=True)):
        gain = "200(0)/mV" if gains is None else gains[number]
        checksum = (int(row.sum()) + 32768) % 65536 - 32768
        lines.append(f"{dat} {form} {gain} 16 0 {row[0]} {checksum} 0 {name}")
    return ("\n".join(lines) + "\n# a comment\n").encode()


def wfdb(rows: npt.NDArray[np.int64], *, form: int = 16, **options: object) -> bytes:
    written = header(rows, form=str(form), **options)  # type: ignore[arg-type]
    return packed({"r.hea": written, "r.dat": encoded(rows, form)})


def csv(rows: npt.NDArray[np.int64], *, names: Sequence[str] = LEADS, head: str = "# rate: 200 Hz\n") -> bytes:
    lines = [",".join(names), *(",".join(f"{x / 200:.3f}" for x in column) for column in rows.T)]
    return (head + "\n".join(lines) + "\n").encode()


def waveform(
    rows: npt.NDArray[np.int64], *, big: bool = False, names: Sequence[str] = LEADS, sop: str = "", **group: object
) -> bytes:
    """A DICOM 12-lead ECG of 16-bit samples, 5 microvolts a step."""
    one = Dataset()
    one.WaveformOriginality = "ORIGINAL"
    one.NumberOfWaveformChannels, one.NumberOfWaveformSamples = rows.shape
    one.SamplingFrequency = str(RATE)
    one.ChannelDefinitionSequence = []
    for name in names:
        source, unit, channel = Dataset(), Dataset(), Dataset()
        source.CodeValue, source.CodingSchemeDesignator, source.CodeMeaning = "x", "99TEST", f"Lead {name}"
        unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "uV", "UCUM", "microvolt"
        channel.ChannelSourceSequence, channel.ChannelSensitivityUnitsSequence = [source], [unit]
        channel.ChannelSensitivity, channel.ChannelSensitivityCorrectionFactor = "5", "1"
        channel.ChannelBaseline, channel.ChannelSampleSkew = "0", "0"
        channel.WaveformBitsStored = 16
        one.ChannelDefinitionSequence.append(channel)
    one.WaveformBitsAllocated, one.WaveformSampleInterpretation = 16, "SS"
    one.WaveformData = rows.T.astype(">i2" if big else "<i2").tobytes()
    for keyword, value in group.items():
        setattr(one, keyword, value)
    file = Dataset()
    file.SOPClassUID = sop or TwelveLeadECGWaveformStorage
    file.SOPInstanceUID = "1.2.3"
    file.PatientID, file.PatientName = "4711", "Doe^Jane"
    file.AcquisitionDateTime = "20240305102030"
    file.WaveformSequence = [one]
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRBigEndian if big else ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID
    out = io.BytesIO()
    file.save_as(out, enforce_file_format=True)
    return out.getvalue()
