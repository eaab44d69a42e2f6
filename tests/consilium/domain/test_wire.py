from __future__ import annotations

import pytest

from consilium.domain.diagnosis import AuditVerdict, Estimate, OperatingPoint

POINT = OperatingPoint(0.3, 0.9, Estimate(0.9, 0.8, 0.95), Estimate(0.7, 0.6, 0.8))


def test_a_value_comes_back_from_json_as_it_was() -> None:
    for value in (POINT, AuditVerdict("suspect", ("One reason.", "Another."))):
        assert type(value).from_json(value.to_json()) == value
    assert POINT.to_json()["sensitivity"] == {"value": 0.9, "low": 0.8, "high": 0.95}


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        ({}, "AuditVerdict lacks reasons, verdict"),
        ({"verdict": "sound"}, "AuditVerdict lacks reasons"),
        ({"verdict": "sound", "reasons": [], "grade": 1}, "grade"),
        ({"verdict": "splendid", "reasons": []}, "verdict"),
    ],
)
def test_json_of_other_keys_or_values_is_refused(data: dict[str, object], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        AuditVerdict.from_json(data)
