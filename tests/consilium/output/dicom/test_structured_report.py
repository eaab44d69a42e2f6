import subprocess
from io import BytesIO

import highdicom as hd
import pytest
from highdicom.sr import CodedConcept
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from consilium.formats.dicom.own_objects import is_own_object
from consilium.output.dicom.marks import file_bytes
from consilium.output.dicom.structured_report import structured_report
from consilium.output.reported import device_uid
from tests.consilium.output.dicom.results import (
    codes_only,
    complaints,
    image_file,
    needs_dciodvfy,
    needs_dsrdump,
    result_of,
)
from tests.consilium.tiny_answer import REFER, UNDETERMINED, eventful_explanation, explanation, open_explanation


def written(explained, *files, **changes):
    return file_bytes(structured_report(result_of(explained, *files), **changes))


def read_back(data):
    return hd.sr.Comprehensive3DSR.from_dataset(dcmread(BytesIO(data)))


def groups_of(data):
    return read_back(data).content.get_image_measurement_groups()


def comments(items) -> list[str]:
    return [item.TextValue for item in items if item.ConceptNameCodeSequence[0].CodeValue == codes.DCM.Comment.value]


@needs_dciodvfy
@pytest.mark.parametrize("make", [explanation, open_explanation, eventful_explanation])
def test_dciodvfy_has_no_complaint(make, tmp_path):
    assert complaints(written(codes_only(make())), tmp_path) == []


@needs_dciodvfy
def test_only_complaint_of_findings_without_a_concept_is_their_private_scheme(tmp_path):
    assert all("99CONSILIUM" in line for line in complaints(written(explanation()), tmp_path))


@needs_dsrdump
def test_dsrdump_reads_the_report(tmp_path):
    (tmp_path / "sr.dcm").write_bytes(written(open_explanation()))
    done = subprocess.run(["dsrdump", tmp_path / "sr.dcm"], capture_output=True, text=True, check=True)
    assert 'NUM:(,,"Probability")="0.71" (1,UCUM,"no units")' in done.stdout
    assert '(121059,DCM,"Presence Undetermined")' in done.stdout
    assert "PRELIMINARY" in done.stdout
    assert "UNVERIFIED" in done.stdout


def test_each_finding_is_a_group_with_its_probability_interval_and_answer():
    alpha, beta = groups_of(written(explanation()))
    assert alpha.finding_type == CodedConcept("233604007", "SCT", "Alpha")
    assert beta.finding_type.scheme_designator == "99CONSILIUM"
    (measured,) = beta.get_measurements()
    assert (measured.name, measured.unit, measured.value) == (codes.DCM.Probability, codes.UCUM.NoUnits, 0.71)
    upper, lower = (float(item.value) for item in measured[0].ContentSequence)
    assert (0.71 - lower, 0.71 + upper) == pytest.approx((0.62, 0.83))
    answers = [group.get_qualitative_evaluations()[0].value for group in (alpha, beta)]
    assert answers == [codes.DCM.Absent, codes.DCM.Present]
    assert [image.referenced_sop_instance_uid for image in alpha.source_images] == ["1.2.3.4"]


def test_referred_finding_is_undetermined_with_its_reason_beside_it():
    _, beta = groups_of(written(open_explanation()))
    assert beta.get_qualitative_evaluations()[0].value == codes.DCM.PresenceUndetermined
    assert comments(beta[0].ContentSequence) == [f"Assess without the model. {UNDETERMINED}"]


def test_referred_study_says_so_before_any_other_remark():
    report = read_back(written(eventful_explanation()))
    said = comments(report.ContentSequence)
    assert said[:2] == [f"Referred: assess this study without the model. {reason}" for reason in REFER]
    assert said[2] == "Decision support. Not for primary diagnosis."
    assert any(line.startswith("Severity: mild") for line in said)
    groups = report.content.get_image_measurement_groups()
    assert {group.get_qualitative_evaluations()[0].value for group in groups} == {codes.DCM.PresenceUndetermined}


def test_report_is_preliminary_unverified_and_complete():
    report = read_back(written(explanation()))
    assert (report.PreliminaryFlag, report.VerificationFlag, report.CompletionFlag) == (
        "PRELIMINARY",
        "UNVERIFIED",
        "COMPLETE",
    )


def test_model_is_named_as_the_processing_algorithm_with_a_device_of_its_own():
    result = result_of(explanation())
    (equipment,) = structured_report(result).ContributingEquipmentSequence
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeMeaning == "Processing Algorithm"
    assert (equipment.ManufacturerModelName, equipment.SoftwareVersions) == ("consilium-x", "3")
    assert equipment.DeviceUID == device_uid(result.reported.model)
    alpha, _ = groups_of(written(explanation()))
    texts = [item.TextValue for item in alpha[0].ContentSequence if item.ValueType == "TEXT"]
    assert f"manifest SHA-256 {'cd' * 32}" in texts


def test_same_revision_gives_the_same_object():
    assert written(explanation()) == written(explanation())


def test_tracking_uid_of_a_finding_stays_while_the_instance_changes():
    first, second = written(explanation()), written(open_explanation())
    assert read_back(first).SOPInstanceUID != read_back(second).SOPInstanceUID
    assert read_back(first).SeriesInstanceUID == read_back(second).SeriesInstanceUID
    assert [g.tracking_uid for g in groups_of(first)] == [g.tracking_uid for g in groups_of(second)]


def test_next_revision_names_the_report_that_it_replaces():
    former = result_of(explanation())
    report = structured_report(result_of(open_explanation(), number=2), former)
    (study,) = report.PredecessorDocumentsSequence
    (reference,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert reference.ReferencedSOPInstanceUID == former.reported.uid("sr")
    assert report.InstanceNumber == 2


def test_procedure_is_that_of_the_images_where_they_name_it():
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "399208008", "SCT", "Plain chest X-ray"
    named = structured_report(result_of(explanation(), image_file(ProcedureCodeSequence=[item])))
    unnamed = structured_report(result_of(explanation(), image_file(Modality="CT")))

    def procedure(report):
        found = [one for one in report.ContentSequence if one.ConceptNameCodeSequence[0].CodeValue == "121058"]
        return found[0].ConceptCodeSequence[0].CodeValue

    assert (procedure(named), procedure(unnamed)) == ("399208008", "363679005")


def test_two_images_are_both_named_as_sources():
    alpha, _ = groups_of(written(explanation(), image_file(), image_file(SOPInstanceUID="1.2.3.5", ViewPosition="LL")))
    assert [image.referenced_sop_instance_uid for image in alpha.source_images] == ["1.2.3.4", "1.2.3.5"]


def test_own_report_is_recognised():
    assert is_own_object(dcmread(BytesIO(written(explanation()))))
    assert not is_own_object(dcmread(BytesIO(image_file())))
