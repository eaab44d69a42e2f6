"""What `consilium models show` makes of what training noted with a version."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from consilium.artifacts import model_registry as registry
from consilium.artifacts.model_registry import RegisteredVersion
from consilium.cli import main
from consilium.modalities.weight_source import WeightSource

SOURCE = WeightSource(architecture="efficientnet-lite0", source="package 0.1.0", sha256="57934424" * 8, licence="MIT")


def _version(number: int, weights: str) -> RegisteredVersion:
    made = datetime(2024, 5, 1, tzinfo=UTC)
    tags = {registry.WEIGHTS: weights}
    return RegisteredVersion("consilium-made", str(number), (), made, "run", "ab" * 32, tags, ())


def test_sources_of_weights_are_named_with_digest_and_licence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = _version(2, json.dumps({"image": [SOURCE.to_json()]}))
    monkeypatch.setattr(registry, "list_versions", lambda name: [begun, _version(1, "{}")])
    assert main(["models", "show", "consilium-made"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    line = "version 2 image: efficientnet-lite0 weights of package 0.1.0, SHA-256 579344245793, licence MIT"
    assert line in printed
    assert "version 1 image" not in printed
