from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from consilium.api.schemas import FeedbackRequest
from consilium.cli import main
from consilium.domain.errors import CohortError, InputError
from consilium.domain.study import Study, accession_digest
from service.audit_log import outcomes as importing
from service.audit_log.database import Database, read_url
from service.audit_log.entries import Entry
from service.audit_log.monitored import monitored_answers
from service.audit_log.outcomes import Imported, import_outcomes
from service.audit_log.pseudonyms import add_key
from service.audit_log.store import Store
from tests.service.audit_log.samples import entry
from tests.service.audit_log.test_monitored import pictured

DAY = 86_400.0
COLUMNS = ("result_id", "accession", "issuer", "finding", "truth", "time", "influenced")
WHEN = "2026-03-08T09:00:00+00:00"


def table(path: Path, *rows: dict[str, Any], columns: tuple[str, ...] = COLUMNS) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows({"finding": "pneumonia", "truth": "present", "time": WHEN} | row for row in rows)
    return path


def ordered(accession: str, issuer: str = "", **more: Any) -> Entry:
    return entry(study=Study({"image": (pictured(accession_digest=accession_digest(accession, issuer)),)}), **more)


def states(store: Store) -> dict[Any, list[tuple[str, str, str, bool | None]]]:
    return {
        one.result_id: [(o.finding, o.state, o.source, o.influenced) for o in one.outcomes]
        for one in monitored_answers(store.database, "consilium-fake")
    }


def test_outcomes_are_joined_by_result_id_and_by_accession_number(store: Store, tmp_path: Path) -> None:
    named, first, shadow, stranger = (
        entry(),
        ordered("A-17", "RIS"),
        ordered("A-17", "RIS", role="shadow"),
        ordered("A-17"),
    )
    store.commit([named, first, shadow, stranger], DAY)
    file = table(
        tmp_path / "outcomes.csv",
        {"result_id": named.result_id, "influenced": "yes"},
        {"accession": " A-17", "issuer": "RIS ", "finding": "pneumothorax", "truth": "absent", "influenced": "no"},
    )
    assert import_outcomes(store, file) == Imported(outcomes=3, already_there=0, answers=3)
    assert states(store) == {
        named.result_id: [("pneumonia", "present", "import", True)],
        first.result_id: [("pneumothorax", "absent", "import", False)],
        shadow.result_id: [("pneumothorax", "absent", "import", False)],
        stranger.result_id: [],
    }
    (line,) = store.result(named.result_id).feedback
    assert (line.time, line.caller, line.source) == (datetime(2026, 3, 8, 9, tzinfo=UTC), "import", "import")


def test_an_order_is_found_whichever_key_signed_it(url: str, store: Store, key_file: Path, tmp_path: Path) -> None:
    before = ordered("A-17")
    store.commit([before], DAY)
    store.database.close()
    rotated = Store(Database(read_url(url)), add_key(key_file))
    after = ordered("A-17")
    rotated.commit([after], DAY)
    assert import_outcomes(rotated, table(tmp_path / "o.csv", {"accession": "A-17"})).answers == 2
    assert all(len(found) == 1 for found in states(rotated).values())
    rotated.database.close()


def test_a_file_that_is_imported_again_changes_nothing_and_a_longer_one_adds(store: Store, tmp_path: Path) -> None:
    one, other = entry(), entry()
    store.commit([one, other], DAY)
    rows = [{"result_id": one.result_id}, {"result_id": one.result_id}]
    file = table(tmp_path / "outcomes.csv", *rows)
    assert import_outcomes(store, file) == Imported(1, 0, 1)
    assert import_outcomes(store, file) == Imported(0, 1, 1)
    later = {"result_id": one.result_id, "truth": "absent", "time": "2026-03-09T09:00:00Z"}
    longer = table(tmp_path / "longer.csv", *rows, {"result_id": other.result_id}, later)
    assert import_outcomes(store, longer) == Imported(2, 1, 2)
    assert [state for _, state, _, _ in states(store)[one.result_id]] == ["present", "absent"]


def test_feedback_of_a_caller_stays_beside_what_is_imported(store: Store, tmp_path: Path) -> None:
    given = entry()
    store.commit([given], DAY)
    asked = FeedbackRequest(result_id=given.result_id, findings={"pneumonia": "absent"}, time=WHEN)
    store.add_feedback(asked, "key:a")
    assert import_outcomes(store, table(tmp_path / "o.csv", {"result_id": given.result_id})) == Imported(1, 0, 1)
    assert {source for _, _, source, _ in states(store)[given.result_id]} == {"feedback", "import"}


def test_every_problem_of_every_row_is_told_at_once_and_nothing_is_imported(store: Store, tmp_path: Path) -> None:
    given = entry()
    store.commit([given], DAY)
    good = {"result_id": given.result_id}
    to_come = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    file = table(
        tmp_path / "outcomes.csv",
        good,
        good | {"truth": "positive", "influenced": "maybe"},
        good | {"time": to_come},
        good | {"time": "March"},
        good | {"time": "", "finding": ""},
        {"result_id": "4711"},
        {},
        good | {"accession": "A-17"},
        {"result_id": uuid4()},
        {},
    )
    with pytest.raises(CohortError) as caught:
        import_outcomes(store, file)
    assert [(one.row, one.column) for one in caught.value.problems] == [
        *((3, "truth"), (3, "influenced"), (4, "time"), (5, "time"), (6, "finding"), (6, "time")),
        *((7, "result_id"), (8, "result_id"), (9, "result_id"), (10, "result_id"), (11, "result_id")),
    ]
    assert states(store) == {given.result_id: []}


def test_what_is_no_answer_or_none_of_its_findings_is_told_by_row(store: Store, tmp_path: Path) -> None:
    given, unknown = entry(), uuid4()
    store.commit([given], DAY)
    file = table(
        tmp_path / "outcomes.csv",
        {"result_id": given.result_id},
        {"result_id": unknown},
        {"accession": "Roe-1950"},
        {"result_id": given.result_id, "finding": "pneumonai"},
        {"result_id": given.result_id, "truth": "absent"},
    )
    with pytest.raises(CohortError) as caught:
        import_outcomes(store, file)
    assert str(caught.value) == (
        "4 problem(s):\n"
        f"  outcomes row 3, result_id: got '{unknown}', must be of a recorded answer\n"
        "  outcomes row 4, accession: got '(not shown)', must be of a recorded answer\n"
        "  outcomes row 5, finding: got 'pneumonai', is no finding of that answer; the nearest is 'pneumonia'\n"
        "  outcomes row 6, truth: got 'absent', contradicts row 2, of the same answer, finding and time"
    )
    assert states(store) == {given.result_id: []}


def test_another_truth_for_the_same_time_is_refused_after_the_first(store: Store, tmp_path: Path) -> None:
    given = entry()
    store.commit([given], DAY)
    import_outcomes(store, table(tmp_path / "o.csv", {"result_id": given.result_id}))
    changed = table(tmp_path / "o.csv", {"result_id": given.result_id, "truth": "absent"})
    with pytest.raises(CohortError, match="outcomes row 2, truth: got 'absent', contradicts what was imported"):
        import_outcomes(store, changed)


def test_a_failure_amid_the_writing_leaves_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [entry() for _ in range(4)]
    store.commit(given, DAY)
    monkeypatch.setattr(importing, "_AT_ONCE", 2)
    whole = importing._rows

    def cut(outcomes: Any) -> Any:
        *rows, last = whole(outcomes)
        return [*rows, last | {"state": "broken"}]

    with monkeypatch.context() as patch:
        patch.setattr(importing, "_rows", cut)
        with pytest.raises(Exception, match=r"(?i)constraint"):
            import_outcomes(store, table(tmp_path / "o.csv", *({"result_id": one.result_id} for one in given)))
    assert set(map(len, states(store).values())) == {0}
    assert import_outcomes(store, tmp_path / "o.csv").outcomes == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "1, finding: got 'nothing', must be a column"),
        (b"result_id,finding,truth,when\n", "is no known column; the nearest is 'finding'|got 'nothing'"),
        (b"finding,truth,time\n", "result_id: got 'nothing', must be a column, or accession"),
        (b"result_id,finding,finding,truth,time\n", "finding: got 'finding', must stand in the header once"),
        (b"result_id,finding,truth,time\na,b\n", "outcomes row 2, row: got '2 cells', must have 4"),
        (b"\xff\xfe", "FILE: got .*must be text in UTF-8"),
        (b'result_id,finding,truth,time\n"a', "must be a table of comma-separated values"),
    ],
)
def test_a_file_that_is_no_table_of_outcomes_is_refused(
    store: Store, tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "o.csv").write_bytes(content)
    with pytest.raises((CohortError, InputError), match=message):
        import_outcomes(store, tmp_path / "o.csv")
    with pytest.raises(InputError, match=r"must be a file that can be read \(No such file"):
        import_outcomes(store, tmp_path / "none.csv")


def test_empty_rows_and_a_byte_order_mark_are_passed_over(store: Store, tmp_path: Path) -> None:
    given = entry()
    store.commit([given], DAY)
    text = f"\ufeffresult_id,finding,truth,time\n\n,,,\n{given.result_id},pneumonia,unknown,{WHEN}\n"
    (tmp_path / "o.csv").write_text(text)
    assert import_outcomes(store, tmp_path / "o.csv") == Imported(1, 0, 1)


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key_file: Path, keys: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path / 'audit-log.db'}"
    monkeypatch.setenv("CONSILIUM_AUDIT_LOG_URL", url)
    monkeypatch.setenv("CONSILIUM_AUDIT_LOG_KEYS", str(key_file))
    store, given = Store(Database(read_url(url)), keys), entry()
    store.commit([given], DAY)
    file = table(tmp_path / "o.csv", {"result_id": given.result_id})
    assert main(["outcomes", "import", str(file)]) == 0
    assert capsys.readouterr().out == "imported 1 outcome(s) of 1 answer(s); 0 were there before\n"
    assert main(["outcomes", "import", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"outcomes": 0, "already_there": 1, "answers": 1}
    assert main(["outcomes", "import", str(table(tmp_path / "o.csv", {"result_id": "x"}))]) == 2
    assert "outcomes row 2, result_id: got 'x', must be the id of an answer" in capsys.readouterr().err
    store.database.close()
