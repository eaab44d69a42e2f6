import pytest

from consilium.domain.errors import InputError
from consilium.domain.findings import Finding, FindingSet


def test_round_trip() -> None:
    findings = FindingSet((Finding("a", "A", "1"), Finding("b", "B")), exclusive=True)
    assert FindingSet.from_json(findings.to_json()) == findings


@pytest.mark.parametrize(
    ("names", "exclusive"), [([], False), (["a", "a"], False), (["a"], True), (["A"], False), (["a b"], False)]
)
def test_sets_that_make_no_sense_are_refused(names: list[str], exclusive: bool) -> None:
    with pytest.raises(InputError):
        FindingSet(tuple(Finding(name, name) for name in names), exclusive)


def test_an_unknown_finding_is_named_beside_the_known_ones() -> None:
    with pytest.raises(InputError, match="got 'c', must be one of a, b"):
        FindingSet((Finding("a", "A"), Finding("b", "B"))).index("c")
