"""The nearest training cases: `POST /v1/similar`."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from consilium.api.schemas import SimilarAnswer
from tests.patience import PATIENCE_S
from tests.service.app.test_routes import Client, note, png, refused, serve
from tests.service.fakes import FakeModel

PATH = "/v1/similar"


def test_the_nearest_cases_come_first_beside_the_diagnosis_and_its_reservations() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        parts = [("images", ("a", png(51))), *note("Cough.", caller_reference="order-9").items()]
        answer = await client.post(PATH, files=parts)
        assert answer.status_code == 200, answer.text
        parsed = SimilarAnswer.model_validate_json(answer.text)
        assert [(case.pseudonym, case.similarity) for case in parsed.neighbours] == [
            ("bb", 1.0),
            ("cc", pytest.approx(0.8)),
            ("aa", 0.0),
        ]
        assert parsed.neighbours[0].labels == {"pneumonia": True, "pneumothorax": None}
        assert parsed.neighbours[0].modalities == ("image", "text")
        assert parsed.findings[0].probability == pytest.approx(0.2, abs=1e-6)
        assert (parsed.refer_reasons, parsed.caller_reference) == (("A rule.",), "order-9")
        assert "explanations" not in answer.json()

    serve(scenario)


@pytest.mark.parametrize(("count", "found"), [(1, ["bb"]), (2, ["bb", "cc"]), (50, ["bb", "cc", "aa"])])
def test_as_many_cases_as_are_asked_for(count: int, found: list[str]) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        answer = await client.post(PATH, files=note("Cough.", count=count))
        assert [case["pseudonym"] for case in answer.json()["neighbours"]] == found

    serve(scenario)


@pytest.mark.parametrize(
    ("more", "field"), [({"count": 0}, "count"), ({"count": 51}, "count"), ({"count": "5"}, "count"), ({"k": 5}, "req")]
)
def test_what_breaks_a_rule_is_refused(more: dict[str, Any], field: str) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        assert refused(await client.post(PATH, files=note("Cough.", **more)), 422)["field"].startswith(field)

    serve(scenario)


def test_a_model_without_training_cases_has_none_to_show() -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        model.neighbours = None
        answer = refused(await client.post(PATH, files=note("Cough.")), 404)
        assert (answer["type"], answer["detail"]) == (
            "urn:consilium:problem:not-found",
            "This model holds no training cases.",
        )
        assert (await client.post("/v1/diagnose", files=note("Cough."))).status_code == 200

    serve(scenario)


def test_an_answer_is_recorded_as_what_it_is() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        answer = (await client.post(PATH, files=note("Cough."))).json()
        kept = (await client.get(f"/v1/results/{answer['result_id']}")).json()
        assert kept["endpoint"] == "similar"
        assert kept["findings"][0]["probability"] == answer["findings"][0]["probability"]
        assert {"decode", "prepare", "similar"} == set(kept["latencies_ms"])

    serve(scenario)


def test_it_waits_in_the_queue_of_the_explanations_and_not_in_that_of_the_diagnoses() -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        go_on, begun = threading.Event(), threading.Event()
        explain = model.explain_prepared

        def slow(*arguments: Any) -> Any:
            begun.set()
            go_on.wait(PATIENCE_S)
            return explain(*arguments)

        model.explain_prepared = slow  # type: ignore[method-assign]
        explaining = asyncio.create_task(client.post("/v1/explain", files=note("x")))
        await asyncio.to_thread(begun.wait, PATIENCE_S)
        refused(await client.post(PATH, files=note("x")), 503)
        diagnosing = asyncio.create_task(client.post("/v1/diagnose", files=note("x")))
        go_on.set()
        assert [answer.status_code for answer in await asyncio.gather(explaining, diagnosing)] == [200, 200]
        assert (await client.post(PATH, files=note("x"))).status_code == 200

    serve(scenario, explanation_queue=1)
