from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from consilium.artifacts.artifact import load_artifact
from consilium.artifacts.model_registry import resolve
from consilium.domain.errors import InputError
from consilium.monitoring.monitored_answer import MonitoredAnswer
from tests.training.monitoring.answers_made import MONDAY, made_answers
from training.monitoring.alarms import DAY
from training.monitoring.output.monitor_report import LATEST, REPORT
from training.monitoring.run_monitor import STATE, MonitorPlan, Reader, accept_alarms, run_monitor

UNTIL = MONDAY.timestamp() + 12 * DAY


def answers_of(folder: Path, *, moved_from: int | None = None) -> list[MonitoredAnswer]:
    """Made-up answers of the model in `folder`, whose image features move with answer `moved_from`."""
    reference, identity = load_artifact(folder).monitoring, resolve(str(folder)).identity
    assert reference is not None
    found = []
    for number, one in enumerate(made_answers(reference, 12)):
        image = one.projections["image"]
        if moved_from is not None and number >= moved_from:
            image = tuple(figure + 1e4 for figure in image)
        found.append(
            replace(
                one,
                model_name=identity.name,
                model_version=identity.version,
                manifest_digest=identity.manifest_digest,
                projections={**one.projections, "image": image},
            )
        )
    return found


def reader(answers: Sequence[MonitoredAnswer]) -> Reader:
    def read(name: str, version: str, since: datetime | None, until: datetime) -> Iterator[MonitoredAnswer]:
        return (one for one in answers if (since is None or one.time >= since) and one.time < until)

    return read


def plan(folder: Path, out: Path, until: float = UNTIL, *, record: bool = False) -> MonitorPlan:
    return MonitorPlan(str(folder), out, until, record=record)


def test_an_alarm_is_raised_kept_accepted_and_the_tests_start_anew(tiny_folder: Path, tmp_path: Path) -> None:
    answers = answers_of(tiny_folder, moved_from=600)
    first = run_monitor(plan(tiny_folder, tmp_path, UNTIL - 6 * DAY), reader(answers))
    assert first.state.alarms == ()
    second = run_monitor(plan(tiny_folder, tmp_path), reader(answers))
    assert {one.label.split()[0] for one in second.state.alarms} == {"image"}
    assert {path.name for path in tmp_path.iterdir()} >= {STATE, LATEST, REPORT}
    purged = run_monitor(plan(tiny_folder, tmp_path), reader(answers[-50:]))
    assert purged.state.alarms == second.state.alarms
    accepted = accept_alarms(str(tiny_folder), tmp_path, "checked", UNTIL - 5 * DAY)
    assert accepted.alarms == ()
    third = run_monitor(plan(tiny_folder, tmp_path), reader(answers))
    assert third.state.alarms == ()
    assert third.started == UNTIL - 4 * DAY


def test_a_run_over_the_same_answers_writes_the_same(tiny_folder: Path, tmp_path: Path) -> None:
    answers = answers_of(tiny_folder, moved_from=900)
    written = []
    for _ in range(2):
        run_monitor(plan(tiny_folder, tmp_path), reader(answers))
        written.append({name: (tmp_path / name).read_bytes() for name in (STATE, LATEST, REPORT)})
    assert written[0] == written[1]


def test_a_run_is_recorded_with_metrics_and_files(tiny_folder: Path, tmp_path: Path, tracking_store: str) -> None:
    run_monitor(plan(tiny_folder, tmp_path, record=True), reader(answers_of(tiny_folder)))
    client = MlflowClient(tracking_store)
    [run] = [
        run
        for experiment in client.search_experiments()
        for run in client.search_runs([experiment.experiment_id], "tags.monitored_version != ''")
    ]
    assert run.info.status == "FINISHED"
    assert run.data.metrics["monitor_alarms"] == 0
    files = {Path(one.path).name for one in client.list_artifacts(run.info.run_id, "evaluation")}
    assert {LATEST, REPORT, "evidence.png", "univariate.csv"} <= files


def test_answers_of_another_artifact_are_none(tiny_folder: Path, tmp_path: Path) -> None:
    others = [replace(one, manifest_digest="cd" * 32) for one in answers_of(tiny_folder)]
    with pytest.raises(InputError, match="CONSILIUM_MONITORING"):
        run_monitor(plan(tiny_folder, tmp_path), reader(others))


def test_there_must_be_something_to_accept(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="monitor run"):
        accept_alarms(str(tiny_folder), tmp_path, "why", datetime.now(UTC).timestamp())
