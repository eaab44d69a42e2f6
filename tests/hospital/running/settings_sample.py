"""A gateway.yaml for tests, whose HTTP port is a free one; and a DICOM file."""

from __future__ import annotations

from pathlib import Path

from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from hospital.configuration.gateway_settings import GatewaySettings
from hospital.configuration.settings_file import read_settings

SETTINGS = """
time_zone: UTC
store: {folder: state, key_file: store.key, free: 1KB}
services: {default: {url: "http://127.0.0.1:9"}}
http: {listen: "127.0.0.1:0"}
routes: {everything: {send_to: []}}
"""


def written(folder: Path, more: str = "") -> Path:
    path = folder / "gateway.yaml"
    path.write_text(SETTINGS + more, encoding="utf-8")
    return path


def settings(folder: Path, more: str = "") -> GatewaySettings:
    return read_settings(written(folder, more))


def dicom_file(path: Path, modality: str) -> Path:
    """A file without pixels."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid()
    image = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    image.StudyInstanceUID, image.SeriesInstanceUID, image.Modality = generate_uid(), generate_uid(), modality
    image.save_as(path, enforce_file_format=True)
    return path
