from __future__ import annotations

import pytest

from training.evaluation.rows import AS_PRESENT, Row, RowKind, alone, fused


@pytest.mark.parametrize(
    ("row", "name", "title"),
    [
        (AS_PRESENT, "fused/as_present", "all that is present"),
        (fused("image+text"), "fused/image+text", "image + text"),
        (alone("image"), "alone/image", "image, own head"),
        (Row(RowKind.BASELINE, "values/boosted"), "baseline/values/boosted", "values/boosted"),
        (Row(RowKind.ORACLE, "as_present"), "oracle/as_present", "all that is present"),
    ],
)
def test_a_row_is_read_back_from_its_name_in_files(row: Row, name: str, title: str) -> None:
    assert str(row) == name
    assert Row.parse(name) == row
    assert row.title == title


def test_only_the_fused_model_answers_from_one_subset() -> None:
    assert fused("text").of_one_subset
    assert not any(row.of_one_subset for row in (AS_PRESENT, alone("text"), Row(RowKind.ORACLE, "text")))


@pytest.mark.parametrize("text", ["fused", "unknown/image", ""])
def test_a_name_without_a_known_kind_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"KIND/NAME|not a valid RowKind"):
        Row.parse(text)
