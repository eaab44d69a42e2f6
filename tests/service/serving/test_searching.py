"""Similar cases and sentences of a search index: `POST /v1/search`."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from consilium.api.schemas import ModelInformation, SearchAnswer
from consilium.domain.errors import InputError
from service.serving.searching import load_searcher
from service.settings import Settings
from tests.consilium.tiny_index import STUDIES, case, write_tiny_index
from tests.service.app.test_routes import Client, note, png, refused, request, serve
from tests.service.fakes import FakeModel

PATH = "/v1/search"
NOTE = STUDIES[4].parts["text"][0].text


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return write_tiny_index(tmp_path_factory.mktemp("search"))


async def found(client: Client, **asked: Any) -> SearchAnswer:
    answer = await client.post(PATH, files=note(NOTE, **asked))
    assert answer.status_code == 200, answer.text
    return SearchAnswer.model_validate_json(answer.text)


def test_words_find_the_sentence_that_they_are_and_its_source(index: tuple[Path, str]) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        answer = await found(client, count=3, caller_reference="order-9")
        assert (answer.sentences[0].sentence, answer.sentences[0].case) == (NOTE, case(4))
        assert answer.sentences[0].similarity == pytest.approx(1, abs=1e-5)
        assert len(answer.cases) == len(answer.sentences) == 3
        similar = [one.similarity for one in answer.cases]
        assert similar == sorted(similar, reverse=True)
        assert (answer.modalities, answer.absent) == (("text",), ("image", "observations"))
        assert (answer.caller_reference, set(answer.input_digests)) == ("order-9", {"notes[0]"})
        manifest = json.loads((index[0] / "index.json").read_text())
        assert answer.encoders.manifest_digest == manifest["digest"]
        assert answer.index_digest == index[1]

    serve(scenario, search_index=index[0])


def test_any_mix_of_records_is_searched_with(index: tuple[Path, str]) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        values = [{"code": "1988-5", "value": 12, "unit": "mg/dL"}]
        everything = [("images", ("a", png(51))), *note(NOTE, observations=values).items()]
        for files, searched in (
            ([("images", ("a", png(51)))], ["image"]),
            (list(request(observations=values).items()), ["observations"]),
            (everything, ["image", "text", "observations"]),
        ):
            answer = await client.post(PATH, files=files)
            assert answer.json()["modalities"] == searched, answer.text

    serve(scenario, search_index=index[0])


def test_only_cases_that_are_known_to_be_so_are_found(index: tuple[Path, str]) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        answer = await found(client, count=50, labels={"pneumonia": "present"}, having=["image"])
        odd = {case(number) for number in range(1, 12, 2)}
        assert {one.pseudonym for one in answer.cases} == {one.case for one in answer.sentences} == odd
        assert (await found(client, labels={"effusion": "absent"})).cases == ()

    serve(scenario, search_index=index[0])


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"count": 0}, "count"),
        ({"count": 51}, "count"),
        ({"labels": {"gout": "present"}}, "labels"),
        ({"labels": {"pneumonia": "likely"}}, "labels"),
        ({"having": ["smell"]}, "having"),
        ({"k": 3}, "request"),
    ],
)
def test_what_breaks_a_rule_is_refused(index: tuple[Path, str], more: dict[str, Any], field: str) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        assert refused(await client.post(PATH, files=note(NOTE, **more)), 422)["field"].startswith(field)

    serve(scenario, search_index=index[0])


def test_a_study_in_which_the_encoders_read_nothing_is_refused(index: tuple[Path, str]) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        refused(await client.post(PATH, files=request(patient={"sex": "F"})), 422)

    serve(scenario, search_index=index[0])


def test_the_audit_log_has_encoders_and_index_and_nothing_of_what_was_found(index: tuple[Path, str]) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        answer = await found(client)
        entry = await client.get(f"/v1/results/{answer.result_id}")
        kept = entry.json()
        assert (kept["endpoint"], kept["model"]) == ("search", answer.encoders.to_json())
        assert (kept["findings"], kept["refer_reasons"]) == ([], [])
        assert kept["input_digests"]["search_index"] == f"sha256:{index[1]}"
        assert kept["input_digests"]["notes[0]"].startswith("hmac-sha256:")
        assert set(kept["latencies_ms"]) == {"decode", "prepare", "search"}
        assert NOTE not in entry.text
        assert answer.sentences[0].case not in entry.text

    serve(scenario, search_index=index[0])


def test_the_model_s_description_names_the_index(index: tuple[Path, str]) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        told = ModelInformation.model_validate_json((await client.get("/v1/model")).text).search
        assert told is not None
        assert (told.index_digest, told.cases, told.sentences) == (index[1], 12, 12)
        assert (told.modalities, told.findings) == (("image", "text", "observations"), ("pneumonia", "effusion"))

    serve(scenario, search_index=index[0])


def test_without_an_index_the_setting_is_named_and_all_else_is_answered() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        problem = refused(await client.post(PATH, files=note("Cough.")), 404)
        assert problem["detail"] == "This service has no search index: CONSILIUM_SEARCH_INDEX names none."
        assert (await client.get("/v1/model")).json()["search"] is None
        assert (await client.post("/v1/diagnose", files=note("Cough."))).status_code == 200

    serve(scenario)


def test_searches_have_a_queue_and_metrics_of_their_own_and_run_on_the_model_s_thread(
    index: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from consilium.inference.search_index import Searcher

    threads, search = set(), Searcher.search_prepared

    def noted(*arguments: Any) -> Any:
        threads.add(threading.get_ident())
        return search(*arguments)

    monkeypatch.setattr(Searcher, "search_prepared", noted)

    async def scenario(client: Client, model: FakeModel) -> None:
        await found(client)
        await client.post("/v1/diagnose", files=note("Cough."))
        assert threads == model.threads
        assert threading.get_ident() not in threads
        metrics = (await client.get("/metrics")).text
        assert 'consilium_stage_seconds_count{stage="search"} 1.0' in metrics
        assert 'consilium_admitted_requests{queue="search"} 0.0' in metrics

    serve(scenario, search_index=index[0])


@pytest.mark.parametrize("change", ["missing", "altered", "encoders gone"])
def test_a_service_does_not_start_with_an_unsound_index(index: tuple[Path, str], tmp_path: Path, change: str) -> None:
    shutil.copytree(index[0].parent, tmp_path / "copy")
    place = tmp_path / "copy" / "index"
    if change == "missing":
        shutil.rmtree(place)
    elif change == "altered":
        (place / "sentences.json").write_text((place / "sentences.json").read_text().replace("fever", "FEVER"))
    else:
        place, _ = write_tiny_index(tmp_path / "elsewhere")
        shutil.rmtree(place.parent / "encoders")
    with pytest.raises(InputError, match=r"CONSILIUM_SEARCH_INDEX: got '.*', must be a sound search index"):
        load_searcher(Settings(model="fake", search_index=place))


def test_the_client_searches_by_keyword(index: tuple[Path, str]) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        from consilium.api.client import AsyncClient

        transport = client._transport
        async with AsyncClient("http://service", transport=transport) as caller:
            answer = await caller.search(notes=[{"kind": "history", "text": NOTE}], count=1, having=["text"])
        assert [one.sentence for one in answer.sentences] == [NOTE]

    serve(scenario, search_index=index[0])
