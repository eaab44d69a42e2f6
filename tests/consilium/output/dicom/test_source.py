from io import BytesIO

import pytest
from pydicom import dcmread, uid

from consilium.domain.errors import InputError
from consilium.output.dicom.marks import Result, file_bytes
from consilium.output.dicom.secondary_capture import secondary_capture
from consilium.output.dicom.segmentation import segmentation
from consilium.output.dicom.source import read_source
from consilium.output.dicom.structured_report import structured_report
from tests.consilium.output.dicom.results import (
    PATIENT,
    codes_only,
    complaints,
    contradictions,
    image_file,
    needs_dcentvfy,
    needs_dciodvfy,
    result_of,
)
from tests.consilium.tiny_answer import explained_study, explanation


def all_objects(data: bytes) -> dict[str, bytes]:
    explained = codes_only(explanation())
    result = result_of(explained, data)
    return {
        "sr": file_bytes(structured_report(result)),
        "sc": file_bytes(secondary_capture(result, explained_study(), explained)),
        "seg": file_bytes(segmentation(result, explained)),
    }


def bare_file(**elements) -> bytes:
    """Without any Type 2 attribute."""
    gone = {key: None for key in PATIENT if key not in ("SeriesInstanceUID", "Modality")}
    data = image_file()
    dataset = dcmread(BytesIO(data))
    for keyword in (*gone, "PatientID", "PatientName"):
        delattr(dataset, keyword)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    buffer = BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def with_raw_name(name: bytes) -> bytes:
    """A file that does not declare in which character set its name is."""
    data = image_file(PatientName="QQQQQQQQ"[: len(name)], SpecificCharacterSet=None)
    return data.replace(b"QQQQQQQQ"[: len(name)], name)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(bare_file(), id="no Type 2 attribute"),
        pytest.param(image_file(PatientName="Ä" * 70 + "^" + "B" * 70, AccessionNumber="9" * 40), id="too long"),
        pytest.param(with_raw_name(b"M\xfcller^E"), id="Latin-1 undeclared"),
        pytest.param(image_file(PhotometricInterpretation="MONOCHROME1"), id="MONOCHROME1"),
        pytest.param(
            image_file(PatientSex="W", PatientBirthDate="1950.02.03", StudyTime="25:00"), id="malformed values"
        ),
        pytest.param(image_file(PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう"), id="ideographic name"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_hospital_files_that_break_the_rules_get_all_three_objects(data):
    for kind, made in all_objects(data).items():
        read = dcmread(BytesIO(made))
        assert read.StudyInstanceUID == "1.2.3", kind
        str(read)  # every value can be decoded


@needs_dciodvfy
@pytest.mark.parametrize(
    "data",
    [image_file(), with_raw_name(b"M\xfcller^E"), image_file(PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう")],
)
def test_dciodvfy_has_no_complaint_of_any_object(data, tmp_path):
    assert {kind: complaints(made, tmp_path) for kind, made in all_objects(data).items()} == {
        "sr": [],
        "sc": [],
        "seg": [],
    }


@needs_dcentvfy
@pytest.mark.parametrize("data", [image_file(), image_file(PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう")])
def test_dcentvfy_finds_no_object_that_contradicts_the_image_of_its_study(data, tmp_path):
    objects = {"image": data, **all_objects(data)}
    assert contradictions(objects, tmp_path) == []
    other = file_bytes(
        secondary_capture(result_of(explanation(), image_file(PatientID="X")), explained_study(), explanation())
    )
    assert contradictions({"image": data, "sc": other}, tmp_path) != []


@pytest.mark.parametrize(
    ("raw", "name"), [(b"M\xfcller^E", "Müller^E"), ("Mülle^E".encode(), "Mülle^E"), (b"Mueller\x00", "Mueller")]
)
def test_name_in_an_undeclared_character_set_is_read_as_utf_8_then_as_latin_1(raw, name):
    read = dcmread(BytesIO(all_objects(with_raw_name(raw))["sr"]))
    assert (str(read.PatientName), read.SpecificCharacterSet) == (name, "ISO_IR 192")


@pytest.mark.filterwarnings("ignore")
def test_identifiers_are_taken_over_as_they_stand():
    made = dcmread(
        BytesIO(all_objects(image_file(PatientID="  7 7", AccessionNumber="9" * 40, IssuerOfPatientID="H"))["sr"])
    )
    assert (made.PatientID, made.AccessionNumber, made.IssuerOfPatientID) == ("7 7", "9" * 40, "H")


def test_nothing_else_of_the_patient_is_taken_over():
    data = image_file(
        OtherPatientIDs="SECRET", PatientAddress="SECRET", OperatorsName="SECRET", InstitutionName="SECRET"
    )
    assert all(b"SECRET" not in made for made in all_objects(data).values())


def test_values_that_are_none_of_their_kind_are_left_empty():
    made = dcmread(
        BytesIO(all_objects(image_file(PatientSex="W", PatientBirthDate="19501399", StudyTime="2500"))["sr"])
    )
    assert (made.PatientSex, made.PatientBirthDate, made.StudyTime) == ("", "", "")


def test_times_are_by_the_clock_of_the_source():
    made = dcmread(BytesIO(all_objects(image_file(TimezoneOffsetFromUTC="+0200"))["sr"]))
    assert (made.ContentDate, made.ContentTime, made.TimezoneOffsetFromUTC) == ("20240501", "143000", "+0200")


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_image_that_cannot_be_referred_to_is_refused(keyword):
    dataset = dcmread(BytesIO(image_file()))
    delattr(dataset, keyword)
    buffer = BytesIO()
    dataset.save_as(buffer)
    with pytest.raises(InputError, match=rf"images\[0\].{keyword}: got None, must be present"):
        read_source(buffer.getvalue())


@pytest.mark.parametrize(
    ("elements", "keyword"),
    [({"StudyInstanceUID": "1.9"}, "StudyInstanceUID"), ({"PatientID": "other"}, "PatientID")],
)
def test_images_of_two_patients_or_studies_are_refused_without_naming_them(elements, keyword):
    with pytest.raises(InputError, match=rf"images\[1\]: got 'another {keyword}'") as caught:
        result_of(explanation(), image_file(), image_file(**elements))
    assert "other'" not in str(caught.value).replace("another", "")


def test_study_without_an_image_is_refused():
    with pytest.raises(InputError, match="must hold a DICOM image"):
        Result([], result_of(explanation()).reported, result_of(explanation()).created)


def test_png_is_no_source():
    with pytest.raises(InputError, match=r"images\[0\].*must be a DICOM file"):
        read_source(b"\x89PNG\r\n\x1a\n" + bytes(300))


def test_digest_is_that_of_the_data_set_whatever_the_file_meta_say():
    data = image_file()
    dataset = dcmread(BytesIO(data))
    dataset.file_meta.ImplementationVersionName = "OTHER"
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    assert buffer.getvalue() != data
    assert read_source(buffer.getvalue()).digest == read_source(data).digest
    assert read_source(image_file(PatientID="8")).digest != read_source(data).digest
    assert dataset.file_meta.TransferSyntaxUID == uid.ExplicitVRLittleEndian
