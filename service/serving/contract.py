"""What callers rely on in the answers of a service: which findings, and which modalities are read.

A newer version of a model may answer better; it may not answer something else.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from service.serving.served_model import Model


class Contract(BaseModel):
    """The findings by name and code, in order, and the modalities."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    findings: tuple[tuple[str, str | None], ...]
    exclusive: bool
    modalities: tuple[str, ...]

    @classmethod
    def of(cls, model: Model) -> Contract:
        return cls(
            findings=tuple((finding.name, finding.code) for finding in model.findings),
            exclusive=model.findings.exclusive,
            modalities=tuple(sorted(modality for modality in model.recipe.modalities)),
        )

    def same_findings(self, other: Contract) -> bool:
        return (self.findings, self.exclusive) == (other.findings, other.exclusive)

    def named_findings(self) -> str:
        """``pneumonia, effusion``, and ``exclusive`` where they are."""
        names = ", ".join(name for name, _ in self.findings)
        return f"{names} (exclusive)" if self.exclusive else names
