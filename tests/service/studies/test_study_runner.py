"""What works at stored studies goes on, whatever happens to one of them."""

from __future__ import annotations

from typing import Any

import pytest

from service.leased_work import lease_worker
from service.studies.answering_store import AnsweringStore
from tests.service.app.test_routes import Client, png, serve
from tests.service.fakes import FakeModel
from tests.service.studies.test_studies import ended, form, submitted


def test_an_error_that_nobody_thought_of_ends_no_more_than_one_look() -> None:
    failed: list[str] = []
    take = AnsweringStore.take

    def fail_first(self: AnsweringStore, *given: Any) -> Any:
        if not failed:
            failed.append("once")
            raise RuntimeError("a row that cannot be unsealed")
        return take(self, *given)

    async def scenario(client: Client, _: FakeModel) -> None:
        assert (await ended(client, await submitted(client, form(png(9))))).state == "answered"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AnsweringStore, "take", fail_first)
        patch.setattr(lease_worker, "_LOOK_EVERY_S", 0.01)
        serve(scenario, studies=True)
    assert failed == ["once"]
