import numpy as np
import pytest
from PIL import Image as Pillow
from pydicom import uid

from consilium.domain.errors import UnreadableImage
from tests.consilium.formats.dicom.dicom_files import dicom_file, ramp
from training.modalities.image.file_facts import read_file_facts


def test_a_dicom_file_tells_its_device_and_encoding(tmp_path):
    path = tmp_path / "a.dcm"
    device = {"Manufacturer": "Aurora", "ManufacturerModelName": "DX-500", "DeviceSerialNumber": "17"}
    path.write_bytes(dicom_file(ramp(), InstitutionName="North", LossyImageCompressionRatio="12.5", **device))
    facts = read_file_facts(path)
    assert facts.device == ("Aurora", "DX-500", "", "17", "")
    assert facts.institution == "North"
    assert facts.lossy == 12.5
    assert facts.size == path.stat().st_size
    assert facts.encoding.split() == [uid.ExplicitVRLittleEndian, "MONOCHROME2", "12"]


def test_a_jpeg_tells_how_coarsely_it_was_quantised(tmp_path):
    picture = Pillow.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8))
    coarse, fine, colour = (tmp_path / name for name in ("coarse.jpg", "fine.JPEG", "colour.jpg"))
    picture.save(coarse, quality=30)
    picture.save(fine, quality=95)
    picture.convert("RGB").save(colour, quality=30)
    with Pillow.open(coarse) as opened:
        assert read_file_facts(coarse).lossy == np.mean(opened.quantization[0])
    assert read_file_facts(coarse).lossy > 5 * read_file_facts(fine).lossy
    assert read_file_facts(fine).encoding == "L .jpeg"
    assert read_file_facts(colour).encoding == "RGB .jpg"


def test_a_png_is_not_lossy(tmp_path):
    path = tmp_path / "a.png"
    Pillow.fromarray(np.zeros((4, 4), np.uint8)).save(path)
    assert read_file_facts(path).lossy is None


@pytest.mark.parametrize("content", [b"", b"no image", bytes(128) + b"DICM" + b"\x02\x00"])
def test_what_is_no_image_is_refused(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(UnreadableImage):
        read_file_facts(path)


def test_a_file_that_is_gone_is_refused(tmp_path):
    with pytest.raises(UnreadableImage):
        read_file_facts(tmp_path / "gone.png")
