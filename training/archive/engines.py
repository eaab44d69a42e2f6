"""Where chunks are scored: in this process, or by workers on Ray, one after the other as they become free."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from training.archive.chunk_scorer import Chunk, ChunkScorer, ModelToUse, ScoredChunk


def score_here(chunks: Sequence[Chunk], model: ModelToUse, folder: Path) -> Iterator[ScoredChunk]:
    """Each chunk, in order."""
    with ChunkScorer(model, folder) as scorer:
        for chunk in chunks:
            yield scorer(chunk)


_ATTEMPTS = 3
_log = logging.getLogger(__name__)


class _RayScorer:
    """A worker of Ray Data; its model is loaded once."""

    def __init__(self, model: ModelToUse, folder: Path) -> None:
        self._scorer = ChunkScorer(model, folder)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return asdict(self._scorer(row["chunk"]))


def score_on_ray(chunks: Sequence[Chunk], model: ModelToUse, folder: Path, workers: int) -> Iterator[ScoredChunk]:
    """The same by `workers` processes of a Ray cluster, in the order in which they end.

    The cluster is the one that ``RAY_ADDRESS`` names, whose machines must see the archive and `folder` under the same
    paths; where it names none, this machine alone.

    Raises
    ------
    ImportError
        Where Ray is not installed.
    """
    import ray

    with _cluster(workers):
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        waiting = ray.data.from_items([{"chunk": chunk} for chunk in chunks], override_num_blocks=len(chunks))
        found = waiting.map(
            _RayScorer,  # type: ignore[arg-type]  # a class for actors, which Ray's types leave out
            fn_constructor_args=(model, folder.resolve()),
            compute=ray.data.ActorPoolStrategy(size=workers),
        )
        for row in found.iter_rows():
            yield ScoredChunk(**row)


@contextmanager
def _cluster(workers: int) -> Iterator[None]:
    """The cluster that this process is connected to, or one for as long as this is open."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        _start(workers)
        yield
    finally:
        ray.shutdown()


def _start(workers: int) -> None:
    import ray

    here = not os.environ.get("RAY_ADDRESS")
    for attempt in range(_ATTEMPTS):
        try:
            ray.init(
                num_cpus=workers if here else None,
                include_dashboard=False if here else None,
                _node_ip_address="127.0.0.1" if here else None,
                log_to_driver=False,
                configure_logging=False,
            )
        except Exception as error:
            # Ray has no class of its own for a node that took longer than its fixed 30 s, as on a busy machine.
            if "timed out" not in str(error) or attempt == _ATTEMPTS - 1:
                raise
            _log.warning("Ray did not start in time; trying again")
            ray.shutdown()
        else:
            return
