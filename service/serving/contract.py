"""What callers rely on in the answers of a service: which findings, and which modalities are read.

A newer version of a model may answer better; it may not answer something else.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from service.serving.served_model import Model


class Contract(BaseModel):
    """The findings by name and code, in order, the targets beside them, and the modalities."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    findings: tuple[tuple[str, str | None], ...]
    exclusive: bool
    targets: tuple[dict[str, Any], ...] = ()
    modalities: tuple[str, ...]

    @classmethod
    def of(cls, model: Model) -> Contract:
        return cls(
            findings=tuple((finding.name, finding.code) for finding in model.findings),
            exclusive=model.findings.exclusive,
            targets=tuple(target.to_json() for target in model.findings.targets),
            modalities=tuple(sorted(modality for modality in model.recipe.modalities)),
        )

    def same_findings(self, other: Contract) -> bool:
        own, others = (self.findings, self.exclusive, self.targets), (other.findings, other.exclusive, other.targets)
        return own == others

    def named_findings(self) -> str:
        """``pneumonia, effusion``, and ``exclusive`` where they are."""
        names = ", ".join(name for name, _ in self.findings)
        named = f"{names} (exclusive)" if self.exclusive else names
        return named + "".join(f", {target['name']}" for target in self.targets)
