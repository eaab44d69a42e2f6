"""What the reading worklist costs as studies gather: ``python benchmarks/worklist.py [--studies 100 10000]``.

For each number of studies a database (SQLite) is filled with answered ones of a few reading groups, each with a sealed
answer of 64 kB; then a reader of one group asks for pages of 50. Printed are median milliseconds, and how many times
those of the fewest studies they are.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

from _options import read_options
from rich.console import Console
from rich.table import Table

from consilium.api.schemas import PatientView
from consilium.domain.study import Sex, identifier_digest
from service.audit_log.database import Database, read_url
from service.audit_log.pseudonyms import add_key, read_keys
from service.audit_log.store import Store
from service.audit_log.tables import StudyReadRow, StudyRow
from service.audit_log.tasks.study_answers import ANSWERED, study_place
from service.settings import Settings
from service.studies.patient_index import patient_code
from service.studies.reader import Reader
from service.studies.reader_store import ReaderStore
from service.studies.stored_contents import StoredContents, StoredSummary, sealed_model
from service.studies.worklines import Asked

GROUPS = 4
ANSWER_BYTES = 64_000
_AT_ONCE = 200
READER = Reader("oidc:reader", frozenset({"group 0"}))


def filled(folder: Path, count: int) -> tuple[Store, list[UUID]]:
    """A store of `count` studies, every third read, and the ids of one group's, latest first."""
    folder.mkdir()
    add_key(folder / "keys")
    store = Store(Database(read_url(f"sqlite:///{folder / 'log.db'}")), read_keys(folder / "keys"))
    now, mine = datetime.now(UTC), []
    for begin in range(0, count, _AT_ONCE):
        with store.database.writing() as session:
            for number in range(begin, min(count, begin + _AT_ONCE)):
                row = _study(store, number, now - timedelta(seconds=number))
                session.add(row)
                if number % 3 == 0:
                    session.add(_read(row))
                if row.reading_group in (READER.groups or ()):
                    mine.append(row.study_id)
    return store, mine


def _study(store: Store, number: int, submitted: datetime) -> StudyRow:
    study_id = uuid4()
    patient = PatientView(label=f"Roe^{number} · {number}", age=50.0, sex=Sex.FEMALE)
    summary = StoredSummary(
        studied=submitted, patient=patient, modalities=("image",), image_count=1, patient_digest=_digest(number)
    )
    outcome = {"called": [], "refer_reasons": [], "finding_reasons": [], "highest": 0.5, "findings": []}
    seal = store.keys.newest.seal
    return StudyRow(
        study_id=study_id,
        reading_group=f"group {number % GROUPS}",
        caller="key:router",
        state=ANSWERED,
        submitted=submitted,
        pixels_until=submitted + timedelta(days=30),
        expires=submitted + timedelta(days=30),
        losses=0,
        size=ANSWER_BYTES,
        patient=patient_code(store.keys, summary.patient_digest),
        summary=sealed_model(store.keys, study_id, "summary", summary),
        contents=sealed_model(store.keys, study_id, "contents", StoredContents(shown={}, warnings=(), left_out=())),
        outcome=seal(json.dumps(outcome).encode(), study_place(study_id, "outcome")),
        answer=seal(bytes(ANSWER_BYTES), study_place(study_id, "answer")),
    )


def _digest(number: int) -> str:
    return str(identifier_digest(f"P{number}"))


def _read(row: StudyRow) -> StudyReadRow:
    return StudyReadRow(
        read_id=uuid4(),
        study_id=row.study_id,
        kind="first",
        findings={"pneumonia": "present"},
        influenced=False,
        time=row.submitted,
        caller="oidc:other",
    )


def milliseconds(ask: Callable[[], object], rounds: int) -> float:
    """Median wall time of `ask`."""
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter()
        ask()
        taken.append(1000 * (time.perf_counter() - begun))
    return statistics.median(taken)


def measure(folder: Path, count: int, rounds: int) -> dict[str, float]:
    """Milliseconds of each way to ask, by its name."""
    store, mine = filled(folder, count)
    settings = Settings(model="none", studies=True, studies_priority=True)
    reader_store = ReaderStore(store, settings)
    asked = {
        "first page": Asked(),
        "page in the middle": Asked(after=mine[len(mine) // 2]),
        "first page of waiting": Asked(state="waiting"),
        "by the day of the study": Asked(sort="studied"),
        "by priority": Asked(sort="priority"),
        "referred": Asked(state="referred"),
        "searched for a name": Asked(search=f"roe^{GROUPS * (len(mine) // 2)} "),
        "searched for a patient's id": Asked(patient_id=f"P{GROUPS * (len(mine) // 2)}"),
    }
    found = {name: milliseconds(partial(reader_store.worklist, READER, one), rounds) for name, one in asked.items()}
    by_day = asked["by the day of the study"]
    found["by the day, the first time in a process"] = milliseconds(
        lambda: ReaderStore(store, settings).worklist(READER, by_day), rounds
    )
    found["one study, with its priors"] = milliseconds(lambda: reader_store.detail(mine[0], READER, ()), rounds)
    store.database.close()
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--studies", type=int, nargs="+", default=[100, 10_000])
    parser.add_argument("--rounds", type=int, default=15)
    options = read_options(parser, arguments, studies=[8, 16], rounds=2)
    with tempfile.TemporaryDirectory() as folder:
        measured = [measure(Path(folder) / str(count), count, options.rounds) for count in options.studies]
    table = Table("", *(f"{count:,} studies, ms" for count in options.studies), "times")
    for name, fewest in measured[0].items():
        times = (f"{one[name]:.1f}" for one in measured)
        table.add_row(name, *times, f"{measured[-1][name] / fewest:.1f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
