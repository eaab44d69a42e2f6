"""Finding and FindingSet: what can be diagnosed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from consilium.domain.errors import InputError
from consilium.domain.targets import Target, target_from_json


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a model gives a probability for.

    Attributes
    ----------
    name : str
        Key in tables and answers: lower case, ``pleural_effusion``.
    display : str
        What a reader sees: ``Pleural effusion``.
    code : str or None
        SNOMED CT concept, where there is one.
    """

    name: str
    display: str
    code: str | None = None

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or self.name != self.name.lower():
            raise InputError("finding.name", self.name, "must be a lower-case identifier such as pleural_effusion")


@dataclass(frozen=True, slots=True)
class FindingSet:
    """The findings of one task, in the order of the model's logits.

    `exclusive` findings share one softmax (exactly one is true, as in an aetiology); independent ones have a sigmoid
    each. `targets` are grades and times that are answered beside them.
    """

    findings: tuple[Finding, ...]
    exclusive: bool = False
    targets: tuple[Target, ...] = ()

    def __post_init__(self) -> None:
        if not self.findings:
            raise InputError("findings", [], "must name at least one finding")
        if len(set(self.names)) != len(self.findings):
            raise InputError("findings", list(self.names), "must not name a finding twice")
        if self.exclusive and len(self.findings) < 2:
            raise InputError("findings", list(self.names), "must be at least two where they are exclusive")
        named = [target.name for target in self.targets]
        if len({*named, *self.names}) < len(named) + len(self.findings):
            raise InputError("targets", named, "must not name a target twice, nor as a finding")

    def __len__(self) -> int:
        return len(self.findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(finding.name for finding in self.findings)

    def index(self, name: str, field: str = "finding") -> int:
        """Position of the finding called `name`; `InputError` of `field` where there is none."""
        if name not in self.names:
            raise InputError(field, name, f"must be one of {', '.join(self.names)}")
        return self.names.index(name)

    def to_json(self) -> dict[str, object]:
        """With ``targets`` where there are some."""
        found: dict[str, object] = {
            "exclusive": self.exclusive,
            "findings": [{"name": f.name, "display": f.display, "code": f.code} for f in self.findings],
        }
        return found | ({"targets": [target.to_json() for target in self.targets]} if self.targets else {})

    @classmethod
    def from_json(cls, data: dict) -> FindingSet:
        findings = tuple(Finding(**finding) for finding in data["findings"])
        targets = tuple(target_from_json(target) for target in data.get("targets", []))
        return cls(findings, bool(data["exclusive"]), targets)
