"""What `consilium monitor run` left for the service to show: files in a folder, one for each model.

The two share nothing else: the run reads the audit log whenever its timer says, in a process of its own.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.registry import Collector
from pydantic import ValidationError

from consilium.api.schemas.monitor_answer import MonitorAnswer
from consilium.system.environment import home_folder

logger = logging.getLogger("consilium.service")

LATEST, REPORT = "latest.json", "report.html"
_MOST_BYTES = 32 << 20
_HELP = "Of the latest `consilium monitor run`."


class MonitorFiles:
    """The latest look at a model. From several threads.

    Parameters
    ----------
    model : callable
        Name of the model that answers; None before there is one.
    """

    def __init__(self, model: Callable[[], str | None]) -> None:
        self._model = model
        self._reading = threading.Lock()
        self._seen: tuple[Path, int, int, int] | None = None
        self._latest: MonitorAnswer | None = None

    def latest(self) -> MonitorAnswer | None:
        """What was found last; None where nobody has looked, or what lies there is nothing that this version reads."""
        path = self._path(LATEST)
        with self._reading:
            try:
                seen = None if path is None else (path, *_state(path))
            except OSError:
                seen = None
            if path is None or seen is None:
                self._seen = self._latest = None
            elif seen != self._seen:
                self._seen, self._latest = seen, _read(path)
            return self._latest

    def report(self) -> str | None:
        """The page for people; None where nobody has looked."""
        path = self._path(REPORT)
        if path is None:
            return None
        try:
            return _text(path)
        except (OSError, UnicodeDecodeError):
            return None

    def _path(self, name: str) -> Path | None:
        model = self._model()
        return None if model is None else home_folder() / "monitor" / model / name


class MonitorGauges(Collector):
    """Gives the gauges of the latest look whenever metrics are asked for."""

    def __init__(self, files: MonitorFiles) -> None:
        self._files = files

    def describe(self) -> Iterator[Metric]:
        """Nothing: which gauges there are is known only when a look was taken."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        found = self._files.latest()
        families: dict[str, Metric] = {}
        for gauge in () if found is None else found.gauges:
            family = families.setdefault(gauge.name, Metric(gauge.name, _HELP, "gauge"))
            family.add_sample(gauge.name, dict(gauge.labels), gauge.value)
        yield from families.values()


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read(path: Path) -> MonitorAnswer | None:
    try:
        return MonitorAnswer.model_validate_json(_text(path))
    except (OSError, UnicodeDecodeError) as error:
        logger.warning("the monitor's %s cannot be read (%s)", LATEST, type(error).__name__)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        logger.warning("the monitor's %s is not shown: %s %s", LATEST, where, first["msg"])
    return None


def _text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise OSError(f"more than {_MOST_BYTES} bytes")
    return data.decode("utf-8")
