"""Drafts of reports: `POST /v1/draft`."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from consilium.api.schemas import DraftAnswer
from consilium.domain.errors import InputError
from service.serving.engine import Engine
from service.settings import Settings
from tests.service.app.test_routes import Client, note, png, refused, serve
from tests.service.fakes import FakeModel

PATH = "/v1/draft"


def sentences(draft: DraftAnswer, name: str) -> list[str]:
    (section,) = [one for one in draft.draft.sections if one.name == name]
    return [one.text for one in section.sentences]


def test_a_draft_stands_beside_the_diagnosis_that_it_puts_into_words(embedded_audit_log: Path) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        answer = await client.post(PATH, files=[("images", ("a", png(51))), *note("Cough.").items()])
        assert answer.status_code == 200, answer.text
        made = DraftAnswer.model_validate_json(answer.text)
        assert made.draft.language == "en"
        assert sentences(made, "notice")[1] == "Assess this study without the model: A rule."
        assert made.findings[0].finding == "pneumonia"
        assert sentences(made, "impression")[0].startswith("Not judged: Pneumonia")
        recorded = (await client.get(f"/v1/results/{made.result_id}")).json()
        assert recorded["endpoint"] == "draft"

    serve(scenario)


@pytest.mark.parametrize(
    ("more", "field"), [({"language": "fr"}, "language"), ({"language": "EN"}, "language"), ({"level": "x"}, "level")]
)
def test_what_breaks_a_rule_is_refused(more: dict[str, Any], field: str) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        assert refused(await client.post(PATH, files=note("Cough.", **more)), 422)["field"] == field

    serve(scenario)


def test_a_sites_phrases_take_the_place_of_those_of_their_language(tmp_path: Path) -> None:
    own = tmp_path / "phrases.yaml"
    english = (files("consilium.output.drafting") / "phrases_en.yaml").read_text("utf-8")
    own.write_text(english.replace("notice: Notice", "notice: Mind"), encoding="utf-8")

    async def scenario(client: Client, _: FakeModel) -> None:
        for language, heading in (("en", "Mind"), ("de", "Hinweis")):
            answer = await client.post(PATH, files=note("Cough.", language=language))
            assert answer.json()["draft"]["sections"][0]["heading"] == heading

    serve(scenario, draft_phrases=own)


def test_a_service_with_broken_phrases_does_not_start(tmp_path: Path) -> None:
    own = tmp_path / "phrases.yaml"
    own.write_text("language: en", encoding="utf-8")
    settings = Settings(model="models:/x@champion", draft_phrases=own)
    with pytest.raises(InputError, match="CONSILIUM_DRAFT_PHRASES"):
        Engine(settings, lambda _: FakeModel())
