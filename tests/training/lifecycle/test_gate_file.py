"""What is demanded of a version, as YAML."""

from __future__ import annotations

from pathlib import Path

import pytest

from consilium.domain.errors import InputError, RecipeError
from training.lifecycle.gate_file import SECTIONS, Gates, load_gates, packaged_gates


def test_the_packaged_gates_demand_everything():
    gates = load_gates()
    assert all(getattr(gates, name) is not None for name in SECTIONS)


@pytest.mark.parametrize(
    ("text", "field", "rule"),
    [
        ("champion: {margn: 0.1}", "gates.champion.margn", "'margin'"),
        ("coverag: {}", "gates.coverag", "'coverage'"),
        ("champion: {margin: 0.9}", "gates.champion.margin", "less than 0.5"),
        ("calibration: {slope: [2, 1]}", "gates.calibration", "a lower and a higher number"),
        ("alpha: 0.05", "gates", "must demand something"),
        ("audit: {verdicts: [fine]}", "gates.audit.verdicts.0", "sound"),
        ("[1, 2]", "gates", "must be a mapping"),
        ("a: [", "gates", "must be YAML"),
        ("a: 2020-13-45", "gates", "must be YAML"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, field: str, rule: str):
    file = tmp_path / "gates.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError) as error:
        load_gates(file)
    assert error.value.field == field
    assert rule in error.value.rule


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="must be a YAML file that can be read"):
        load_gates(tmp_path / "none.yaml")


def test_the_digest_is_of_what_is_demanded_and_not_of_how_it_is_written(tmp_path: Path):
    other = tmp_path / "gates.yaml"
    other.write_text("# ours\n" + load_gates().to_yaml())
    assert other.read_bytes() != packaged_gates().read_bytes()
    assert load_gates(other).digest == load_gates().digest
    stricter = load_gates().model_copy(update={"alpha": 0.01})
    assert stricter.digest != load_gates().digest


def test_a_section_that_is_null_is_not_demanded():
    assert Gates.model_validate({"size": {}, "audit": None}).audit is None
