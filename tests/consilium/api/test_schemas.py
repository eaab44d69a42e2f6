from __future__ import annotations

import json
import subprocess
import sys

import pytest
from pydantic import ValidationError

from consilium.api.schemas import DIAGNOSE_EXAMPLE, DiagnoseRequest, ExplainRequest, parse_request, split_worklist
from consilium.domain.errors import InputError, MalformedRequest, TooLarge
from consilium.modalities.observations.records import read_observations


def test_a_request_is_read_and_written_again() -> None:
    sent = {
        "notes": [{"kind": "history", "text": "Häufiger Husten.", "time": "2024-05-01T10:00:00"}],
        "observations": [{"code": "1988-5", "value": 112.5, "comparator": None, "unit": "mg/L", "time": None}],
        "patient": {"age": 67.0, "sex": "female", "names": ["Roe^Jane"]},
        "reference_time": "2024-05-01T12:00:00",
        "caller_reference": "worklist-4711",
        "findings": ["pneumonia"],
        "level": "thorough",
        "maps": "cells",
    }
    read = parse_request(ExplainRequest, json.dumps(sent).encode())
    assert read.model_dump(mode="json") == sent


@pytest.mark.parametrize(
    ("data", "field", "value", "rule"),
    [
        ('{"nots": []}', "request", "nots", "is no known key; the nearest is 'notes'"),
        ('{"Jane Roe": 1}', "request", "Jane Roe", "is no known key; the nearest is 'notes'"),
        ('{"level": "fast"}', "request", "level", None),
        (
            '{"notes": [{"kind": "history", "text": "a", "txt": 1}]}',
            "notes[0]",
            "txt",
            "is no known key; the nearest is 'text'",
        ),
        ('{"patient": {"agee": 1}}', "patient", "agee", "is no known key; the nearest is 'age'"),
        ('{"notes": [{"text": "a"}]}', "notes[0].kind", None, "is required"),
        ('{"notes": [{"kind": "history", "text": 5}]}', "notes[0].text", 5, None),
        ('{"observations": [{"code": "1988-5", "value": [5], "unit": "mg/L"}]}', "observations[0].value", [5], None),
        (
            '{"observations": [{"code": "1988-5", "value": 1, "comparator": "~"}]}',
            "observations[0].comparator",
            "~",
            None,
        ),
        ('{"observations": [{"code": "1988-5", "value": {}}]}', "observations[0].value", {}, None),
        ('{"patient": {"age": {"years": 67}}}', "patient.age", {"years": 67}, None),
        ('{"patient": {"sex": 1}}', "patient.sex", 1, None),
        ('{"reference_time": 1714550400}', "reference_time", 1714550400, None),
        (f'{{"reference_time": "{"1" * 41}"}}', "reference_time", "1" * 41, "must have at most 40 characters"),
        ("[]", "request", [], None),
        ('"http://127.0.0.1/x"', "request", "http://127.0.0.1/x", None),
    ],
)
def test_what_breaks_a_rule_is_named(data: str, field: str, value: object, rule: str | None) -> None:
    with pytest.raises(InputError) as caught:
        parse_request(DiagnoseRequest, data.encode())
    assert (caught.value.field, caught.value.value) == (field, value)
    assert rule is None or caught.value.rule == rule


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\xff\xfe{}", b'{"caller_reference": "\\ud800"}', b"[" * 100_000, b'{"notes": [}', b"\x80\x04K\x01."],
)
def test_what_is_no_json_is_malformed_and_not_quoted(data: bytes) -> None:
    with pytest.raises(MalformedRequest) as caught:
        parse_request(DiagnoseRequest, data)
    assert caught.value.rule.startswith("must be JSON in UTF-8")


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ('{"notes": [], "notes": [{"kind": "history", "text": "Cough."}]}', "notes"),
        ('{"patient": {"age": 67, "sex": "F", "age": 6}}', "age"),
        ('{"observations": [{"code": "1988-5", "value": 1, "unit": "mg/L", "\\u0075nit": "g/L"}]}', "unit"),
    ],
)
def test_a_key_that_comes_twice_is_refused_because_parsers_differ_in_which_they_take(data: str, key: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_request(DiagnoseRequest, data.encode())
    assert (caught.value.field, caught.value.value) == ("request", key)
    assert caught.value.rule == "must come once in an object"


def test_of_many_broken_records_one_is_reported() -> None:
    for records in ({"notes": [{"kind": 1}] * 1000}, {"observations": [{"value": "x"}] * 1000}):
        with pytest.raises(ValidationError) as caught:
            DiagnoseRequest.model_validate(records)
        assert caught.value.error_count() <= 4


def test_a_worklist_is_split_into_the_requests_that_each_study_would_be_alone() -> None:
    odd = ['{"nots": 1}', "[1.5]", '"Gr\u00fc\u00dfe"', "null", '{"observations":[{"value":1e999}]}']
    parts = split_worklist(f"[{json.dumps(DIAGNOSE_EXAMPLE)}, {', '.join(odd)}]".encode(), 6)
    whole = parse_request(DiagnoseRequest, json.dumps(DIAGNOSE_EXAMPLE).encode())
    assert parse_request(DiagnoseRequest, parts[0]) == whole
    assert [json.loads(part) for part in parts[1:]] == [json.loads(text) for text in odd]
    for part in parts[1:]:
        with pytest.raises(InputError):
            parse_request(DiagnoseRequest, part)


@pytest.mark.parametrize(
    ("data", "kind", "rule"),
    [
        (b"[{}", MalformedRequest, "must be JSON in UTF-8 (not at line 1 column 3)"),
        (b'["Jane Roe]', MalformedRequest, "must be JSON in UTF-8 (not at line 1 column 11)"),
        (b"\xff", MalformedRequest, "must be JSON in UTF-8"),
        (b"[" * 100_000, MalformedRequest, "must be JSON in UTF-8 (not at line 1 column 202)"),
        (b"[]", InputError, "must be an array of at least one study's request"),
        (b'{"requests": []}', InputError, "must be an array of at least one study's request"),
        (b"[{}, {}, {}]", TooLarge, "must be at most 2 studies"),
        (b'[{}, {"patient": {"age": 1, "age": 2}}]', InputError, "must come once in an object"),
    ],
)
def test_what_is_no_worklist_is_refused_and_not_quoted(data: bytes, kind: type[InputError], rule: str) -> None:
    with pytest.raises(InputError) as caught:
        split_worklist(data, 2)
    assert (type(caught.value), caught.value.field, caught.value.rule) == (kind, "requests", rule)


def test_importing_the_schemas_stays_cheap() -> None:
    heavy = "{'torch', 'monai', 'transformers', 'mlflow', 'pandas', 'bentoml'}"
    code = f"import sys, consilium.api.schemas; sys.exit(len({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_byte_order_mark_before_json_is_passed_over() -> None:
    sent = json.dumps(DIAGNOSE_EXAMPLE)
    assert parse_request(DiagnoseRequest, sent.encode("utf-8-sig")) == parse_request(DiagnoseRequest, sent.encode())
    assert split_worklist(f"[{sent}]".encode("utf-8-sig"), 1) == split_worklist(f"[{sent}]".encode(), 1)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ('{"notes": []}'.encode("utf-16"), "UTF-16"),
        ('{"notes": []}'.encode("utf-16-be"), "UTF-16 or UTF-32 without a byte order mark"),
        ('{"caller_reference": "Müller"}'.encode("latin-1"), "Latin-1"),
    ],
)
def test_json_in_another_encoding_is_refused_by_its_name(data: bytes, value: str) -> None:
    for read in (lambda: parse_request(DiagnoseRequest, data), lambda: split_worklist(data, 1)):
        with pytest.raises(MalformedRequest, match="must be JSON in UTF-8") as caught:
            read()
        assert value in str(caught.value.value)


def test_a_comment_in_the_place_of_a_value_or_unit_stops_no_study() -> None:
    """It is left out with a warning by ingest, as everything that is not understood."""
    comment = "Specimen grossly haemolysed, result may be affected; please send another tube. " * 2
    sent = {"observations": [{"code": "2823-3", "value": comment, "unit": comment}, {"code": "1988-5", "value": 1}]}
    read = parse_request(DiagnoseRequest, json.dumps(sent).encode())
    assert (read.observations[0].value, read.observations[0].unit) == (comment, comment)
    observations, warnings = read_observations([record.model_dump() for record in read.observations])
    assert observations == ()
    assert [warning.partition(" left out")[0] for warning in warnings] == ["observations[0]", "observations[1]"]


def test_a_pending_result_has_a_null_value_which_must_be_written() -> None:
    read = parse_request(DiagnoseRequest, b'{"observations": [{"code": "6301-6", "value": null, "unit": "1"}]}')
    assert read.observations[0].value is None
    assert json.loads(read.model_dump_json(exclude_none=True))["observations"] == [
        {"code": "6301-6", "value": None, "unit": "1"}
    ]
    with pytest.raises(InputError, match=r"observations\[0\]\.value"):
        parse_request(DiagnoseRequest, b'{"observations": [{"code": "6301-6", "unit": "1"}]}')


def test_a_unit_that_is_null_is_none() -> None:
    read = parse_request(DiagnoseRequest, b'{"observations": [{"code": "6301-6", "value": 1.1, "unit": null}]}')
    assert read.observations[0].unit == ""
