"""Searches beside the model: what `CONSILIUM_SEARCH_INDEX` names, and the queue in front of it.

The encoders of the index run on the model's thread, between its batches: torch keeps its thread count per thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from consilium.api.schemas import SearchInformation, SearchRequest
from consilium.domain.diagnosis import PRESENT, FindingResult, ModelIdentity
from consilium.domain.errors import InputError
from consilium.domain.found_cases import Found
from consilium.domain.study import Study
from consilium.domain.variables import VariableTable
from service.audit_log.entries import SEARCH_INDEX
from service.batching import Batcher, BatchLimits, Place
from service.http.problems import NotOffered
from service.observability.metrics import Metrics
from service.settings import PREFIX, Settings

if TYPE_CHECKING:
    from consilium.inference.search_index import Query
    from consilium.preprocessing.batch import Prepared

logger = logging.getLogger("consilium.service")

SETTING = f"{PREFIX}SEARCH_INDEX"


class Searcher(Protocol):
    """What the service asks of a `consilium.inference.search_index.Searcher`."""

    identity: ModelIdentity

    @property
    def variables(self) -> VariableTable: ...

    @property
    def information(self) -> SearchInformation: ...

    def require_known(self, query: Query) -> None: ...

    def prepare(self, study: Study) -> Prepared: ...

    def search_prepared(self, item: Prepared, query: Query) -> Found: ...


@dataclass(frozen=True, slots=True, eq=False)
class SearchOrder:
    """One search, asked of the model's thread."""

    item: Prepared
    query: Query


SearchPlace: TypeAlias = Place[SearchOrder, Found]


@dataclass(frozen=True, slots=True)
class SearchRecord:
    """A search as the audit log records it: which encoders and which index answered, to what; it decides nothing."""

    model: ModelIdentity
    input_digests: Mapping[str, str]
    findings: tuple[FindingResult, ...] = ()
    refer_reasons: tuple[str, ...] = ()

    @classmethod
    def of(cls, found: Found) -> SearchRecord:
        return cls(found.encoders, found.input_digests | {SEARCH_INDEX: found.index_digest})


def load_searcher(settings: Settings) -> Searcher:
    """The index that the settings name, and its encoders, verified.

    Raises
    ------
    InputError
        Names the setting.
    """
    from consilium.domain.errors import ConsiliumError
    from consilium.inference.diagnostician import choose_device
    from consilium.inference.search_index import Searcher as Loaded

    if settings.search_index is None:
        raise RuntimeError("no search index is set")
    try:
        loaded = Loaded.load(settings.search_index, choose_device(settings.device))
    except ConsiliumError as error:
        raise InputError(SETTING, str(settings.search_index), f"must be a sound search index: {error}") from None
    index = loaded.index
    logger.info("search index %.12s: %d cases, %d sentences", index.digest, len(index.cases), len(index.sentences))
    return loaded


class Searching:
    """The index and its queue. `start` before anything else, `drain` at the end, both within the event loop.

    Parameters
    ----------
    thread : Executor
        The model's.
    load : callable
        Gives the searcher that settings name.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        thread: Executor,
        load: Callable[[Settings], Searcher] = load_searcher,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._thread = thread
        self._load = load
        self._searcher: Searcher | None = None
        self.searches: Batcher[SearchOrder, Found] = Batcher(
            self._search, thread, BatchLimits(1, 0.0, settings.search_queue)
        )
        metrics.watch_queue("search", lambda: self.searches.admitted, lambda: self.searches.waiting)

    @property
    def searcher(self) -> Searcher:
        """What searches; `NotOffered` where there is no index."""
        if self._searcher is None:
            raise NotOffered(f"This service has no search index: {SETTING} names none.")
        return self._searcher

    @property
    def information(self) -> SearchInformation | None:
        """The part of `GET /v1/model` about the index."""
        return None if self._searcher is None else self._searcher.information

    async def start(self) -> None:
        """Load the index, where the settings name one, and open the queue."""
        if self._settings.search_index is not None:
            loop = asyncio.get_running_loop()
            self._searcher = await loop.run_in_executor(self._thread, self._load, self._settings)
        self.searches.start()

    async def drain(self) -> None:
        """Answer what was admitted."""
        await self.searches.drain()

    def query(self, request: SearchRequest) -> Query:
        """What `request` searches for; `InputError` where no case can have what it asks for."""
        from consilium.inference.search_index import Query

        labels = {name: state == PRESENT for name, state in request.labels.items()}
        query = Query(request.count, labels, request.having)
        self.searcher.require_known(query)
        return query

    def _search(self, orders: Sequence[SearchOrder]) -> Sequence[Found]:
        found = []
        for order in orders:
            with self._metrics.stage("search"):
                found.append(self.searcher.search_prepared(order.item, order.query))
        return found
