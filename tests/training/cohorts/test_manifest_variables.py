"""Variables that a cohort declares, and the columns and rows that hold them."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from consilium.domain.errors import CohortError
from consilium.domain.variable_records import own_variables, variables_from_json, variables_to_json
from consilium.domain.variables import BUILT_IN, Kind
from consilium.formats.quantities import Comparator
from consilium.formats.units import conversion
from training.cohorts.cohort import Cohort
from training.cohorts.manifest import read_manifest
from training.modalities.observations.value_columns import own_unit_code
from training.modalities.observations.variable_check import own_variable_table

DECLARED = """
name: ward
variables:
  - name: drain_output
    display: Drain output
    unit: mL/d
    reference: {female: [0, 80], male: [0, 100]}
    plausible: [0, 20000]
    scale: log
    codes: [DRAIN-24, "9999991-5"]
  - name: rhythm
    kind: categorical
    categories: [sinus, flutter, paced]
    normal: [sinus]
  - name: frailty
    kind: categorical
    categories: ["1", "2", "3"]
    ordered: true
  - name: ventilated
    display: Mechanical ventilation
    kind: yes_no
"""
HEAD = (
    "study,patient,sex,label:pneumonia,"
    "value:drain_output,value:drain_output_time,value:rhythm,value:ventilated,value:crp"
)
STUDIES = f"""{HEAD}
s1,p1,F,1,120,2024-05-01T08:00:00,flutter,yes,<0.3
s2,p2,M,0,<5,,Sinus,no,
s3,p3,M,0,,,,,12
"""
OBSERVATIONS = """study,code,value,unit,time
s3,DRAIN-24,0.5,L/d,2024-05-01T07:00:00
s3,9999991-5,1,L/d,2024-05-01T09:00:00
s3,frailty,3,,
s3,1988-5,> 300,mg/L,
"""


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    def write(declared: str = DECLARED, studies: str = STUDIES, observations: str = OBSERVATIONS) -> Path:
        (tmp_path / "cohort.yaml").write_text(declared)
        (tmp_path / "studies.csv").write_text(studies)
        (tmp_path / "observations.csv").write_text(observations)
        return tmp_path

    return write


def problems(root: Path) -> list[tuple[str, int | None, str, str]]:
    with pytest.raises(CohortError) as caught:
        read_manifest(root)
    return [(problem.table, problem.row, problem.column, problem.rule) for problem in caught.value.problems]


def test_a_cohort_brings_its_own_variables(folder: Callable[..., Path]) -> None:
    cohort = read_manifest(folder())
    assert [variable.name for variable in own_variables(cohort.variables)] == [
        *("drain_output", "rhythm", "frailty", "ventilated")
    ]
    drain, rhythm, frailty, ventilated = own_variables(cohort.variables)
    assert (drain.reference, drain.female, drain.male) == ((0, 100), (0, 80), (0, 100))
    assert (drain.plausible_high, drain.log_scale, drain.unit) == (20000, True, "mL/d")
    assert [(code.code, code.system) for code in drain.codes] == [
        *(("DRAIN-24", "local"), ("9999991-5", "LOINC"), ("drain_output", "local"))
    ]
    assert (rhythm.kind, rhythm.display, rhythm.normal_categories) == (Kind.CATEGORICAL, "Rhythm", ("sinus",))
    assert (frailty.ordered, frailty.plausible_high) == (True, math.inf)
    assert (ventilated.kind, ventilated.categories) == (Kind.YES_NO, ("no", "yes"))
    first, second, third = (
        [(o.variable, o.value, o.comparator, o.category) for o in record.parts["observations"]]
        for record in cohort.records
    )
    assert first == [
        ("drain_output", 120.0, None, None),
        ("rhythm", 1.0, None, "flutter"),
        ("ventilated", 1.0, None, "yes"),
        ("crp", 0.3, Comparator.BELOW, None),
    ]
    assert second == [
        *(
            ("drain_output", 5.0, Comparator.BELOW, None),
            ("rhythm", 0.0, None, "sinus"),
            ("ventilated", 0.0, None, "no"),
        )
    ]
    assert third == [
        ("crp", 12.0, None, None),
        ("drain_output", pytest.approx(500.0), None, None),
        ("drain_output", pytest.approx(1000.0), None, None),
        ("frailty", 2.0, None, "3"),
        ("crp", 300.0, Comparator.ABOVE, None),
    ]
    assert [o.time and o.time.hour for o in cohort.records[0].parts["observations"]] == [8, None, None, None]


def test_the_check_tells_what_is_there_of_them(folder: Callable[..., Path]) -> None:
    table = own_variable_table(read_manifest(folder())).set_index("variable")
    assert table.loc["Drain output", ["kind", "studies", "values", "limits"]].tolist() == ["numeric", 3, 4, 1]
    assert table.loc["Drain output", "found"] == "310 (91.2 to 625) mL/d"
    assert table.loc["Rhythm", "found"] == "sinus: 1, flutter: 1, paced: 0"
    assert table.loc["Mechanical ventilation", "found"] == "no: 1, yes: 1"


def test_the_digest_follows_the_declarations_and_the_values(folder: Callable[..., Path]) -> None:
    digests = {
        read_manifest(folder(declared=declared, studies=studies)).digest
        for declared in (DECLARED, DECLARED.replace("20000", "30000"))
        for studies in (STUDIES, STUDIES.replace("<5", "5"), STUDIES.replace("flutter", "paced"))
    }
    assert len(digests) == 6


def test_the_variables_come_back_from_json(folder: Callable[..., Path]) -> None:
    table = read_manifest(folder()).variables
    stored = json.loads(json.dumps(variables_to_json(table, ["crp"]), allow_nan=False))
    assert [entry["name"] for entry in stored] == ["crp", *(variable.name for variable in own_variables(table))]
    assert variables_from_json(stored) == table


@pytest.mark.parametrize(
    ("old", "new", "place", "rule"),
    [
        ("name: drain_output", "name: crp", (4, "variables.0.name"), "must name one variable only"),
        ("name: drain_output", "name: age", (4, "variables.0.name"), "must not be that of the patient's age or sex"),
        ("name: drain_output", "name: Drain-1", (4, "variables.0.name"), "string should match pattern"),
        ("9999991-5", "1988-5", (4, "variables.0.codes"), "must mean one variable only, and means crp"),
        ("DRAIN-24", "dr ain", (4, "variables.0.codes"), "must be a LOINC code, or letters"),
        ("DRAIN-24", "rhythm", (11, "variables.1.codes"), "must mean one variable only, and means drain_output"),
        ("unit: mL/d", "unit: spoons", (4, "variables.0.unit"), "must be a UCUM unit"),
        ("    unit: mL/d\n", "", (4, "variables.0.unit"), "must be there"),
        ("unit: mL/d", "unti: mL/d", (4, "variables.0.unti"), "is no known key; the nearest is 'unit'"),
        ("[0, 20000]", "[20000, 0]", (4, "variables.0.plausible"), "with low below high"),
        ("[0, 20000]", "[0, 90]", (4, "variables.0.reference"), "must lie within the plausible limits"),
        ("[0, 20000]", "[-5, 20000]", (4, "variables.0.scale"), "must be linear where values may lie below 0"),
        ("[sinus, flutter, paced]", "[sinus, no]", (11, "variables.1.categories.1"), "unless they are quoted"),
        ("[sinus, flutter, paced]", "[sinus, sinus]", (11, "variables.1.categories"), "must differ"),
        ("[sinus, flutter, paced]", "[sinus, SINUS]", (11, "variables.1.categories"), "in more than case and blanks"),
        ("[sinus, flutter, paced]", '[sinus, "a\\nb"]', (11, "variables.1.categories"), "must be without line breaks"),
        ("display: Drain output", 'display: "a\\x1b[31m"', (4, "variables.0.display"), "and control characters"),
        ("normal: [sinus]", "normal: [sinus]\n    kind: numeric", (15, "kind"), "must stand once"),
        ("name: ward", "variables: []\nname: ward", (4, "variables"), "must stand once"),
        ("normal: [sinus]", "normal: [synus]", (11, "variables.1.normal"), "must be among the categories"),
        ("ordered: true", "unit: kg", (15, "variables.2.unit"), "must not be there for a variable of kind categorical"),
        ("kind: yes_no", "kind: boolean", (19, "variables.3.kind"), "input should be 'numeric'"),
    ],
)
def test_a_declaration_that_breaks_a_rule_is_reported_with_its_line(
    folder: Callable[..., Path], old: str, new: str, place: tuple[int, str], rule: str
) -> None:
    assert DECLARED.count(old) == 1
    found = problems(folder(declared=DECLARED.replace(old, new)))
    assert [(table, row, column) for table, row, column, _ in found if table == "cohort.yaml"] == [
        ("cohort.yaml", *place)
    ]
    assert rule in next(message for table, _, _, message in found if table == "cohort.yaml")


def test_a_value_that_its_variable_cannot_have_is_reported_with_row_and_column(folder: Callable[..., Path]) -> None:
    studies = STUDIES.replace("120,", "lots,").replace("flutter", "fluter").replace("T08:00:00", "T8am")
    observations = OBSERVATIONS.replace("frailty,3", "frailty,9").replace("> 300", "??")
    found = problems(folder(studies=studies, observations=observations))
    assert {place[:3] for place in found} == {
        *(("studies.csv", 2, f"value:{name}") for name in ("drain_output", "drain_output_time", "rhythm")),
        *(("observations.csv", row, "value") for row in (4, 5)),
    }
    assert any("sinus, flutter, paced" in rule for *_, rule in found)


def test_a_time_that_is_none_is_reported_once(folder: Callable[..., Path]) -> None:
    found = problems(folder(studies=STUDIES.replace("T08:00:00", "T8am")))
    assert [place[:3] for place in found] == [("studies.csv", 2, "value:drain_output_time")]


def test_unknown_codes_and_units_are_left_out_and_reported(folder: Callable[..., Path]) -> None:
    observations = OBSERVATIONS.replace("0.5,L/d", "0.5,mg") + "s3,DRAIN-7,1,mL/d,\n"
    record = read_manifest(folder(observations=observations)).records[2]
    assert [o.value for o in record.parts["observations"] if o.variable == "drain_output"] == [pytest.approx(1000.0)]
    assert sum("Drain output" in warning for warning in record.warnings) == 1
    assert sum("its code is not in the table" in warning for warning in record.warnings) == 1


def test_a_column_of_no_variable_and_a_time_without_a_value_are_problems(folder: Callable[..., Path]) -> None:
    studies = STUDIES.replace("value:rhythm", "value:rythm").replace("s3,p3,M,0,,", "s3,p3,M,0,,2024-05-01T08:00:00")
    assert set(problems(folder(studies=studies))) == {
        ("studies.csv", None, "value:rythm", "is no known column; the nearest is 'value:rhythm'"),
        ("studies.csv", 4, "value:drain_output_time", "must not stand without value:drain_output"),
    }


def test_a_study_of_own_variables_alone_is_one(folder: Callable[..., Path]) -> None:
    cohort = read_manifest(folder())
    assert isinstance(cohort, Cohort)
    nothing = STUDIES + "s4,p4,M,0,,,,,\n"
    assert ("studies.csv", 5, "study") in {found[:3] for found in problems(folder(studies=nothing))}


def test_a_logarithmic_variable_has_no_values_below_zero(folder: Callable[..., Path]) -> None:
    declared = DECLARED.replace("    plausible: [0, 20000]\n", "")
    studies = STUDIES.replace("120,", "-120,")
    (observation, *_) = read_manifest(folder(declared=declared, studies=studies)).records[0].parts["observations"]
    assert (observation.value, observation.implausible) == (-120.0, True)


def test_yes_no_and_grades_may_come_as_decimals_of_a_column_with_gaps(folder: Callable[..., Path]) -> None:
    root = folder(studies=STUDIES.replace(",yes,", ",1.0,").replace(",no,", ",0.0,"))
    records = read_manifest(root).records
    assert [o.category for r in records[:2] for o in r.parts["observations"] if o.variable == "ventilated"] == [
        "yes",
        "no",
    ]


@pytest.mark.parametrize("unit", ["'{score}'", "'1'", "'{drops}'"])
def test_a_pure_number_may_have_an_annotation_for_a_unit(folder: Callable[..., Path], unit: str) -> None:
    observations = OBSERVATIONS.replace("mL/d", "").replace("L/d", "")
    table = read_manifest(folder(declared=DECLARED.replace("mL/d", unit), observations=observations)).variables
    for sent in ("", "1", "{score}", "points"):
        assert conversion(table["drain_output"], table.codes["DRAIN-24"], sent)(7.0) == 7.0


def test_every_built_in_variable_can_stand_in_a_column() -> None:
    for variable in BUILT_IN.values():
        assert own_unit_code(variable)


def test_a_table_without_a_study_is_a_problem(folder: Callable[..., Path]) -> None:
    found = problems(folder(studies=f"{HEAD}\n", observations="study,code,value,unit,time\n"))
    assert found == [("studies.csv", None, "file", "must have a row for each study below its header")]
