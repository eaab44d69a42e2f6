"""Two processes, started by torchrun once for all tests, or each by one of its own, and joined by gloo."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed.elastic.multiprocessing.api import ProcessFailure
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from consilium.domain.errors import TrainingError
from tests.conftest import ROOT
from tests.orthanc import free_ports
from tests.training.cohorts_made import Sink
from tests.training.processes import GRADIENTS, cached_in, recipe_for, trained
from training.data.cached_cohort import CachedCohort
from training.runtime.process_group import process_group, relaunch


def torchrun(folder: Path, what: str, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    start = [sys.executable, "-m", "torch.distributed.run", *(options or ("--standalone", "--nproc-per-node", "2"))]
    command = [*start, "-m", "tests.training.processes", str(folder), what]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | variables
    return subprocess.run(
        command, check=False, env=environment, cwd=folder, timeout=500, capture_output=True, text=True
    )


def on_two_machines(folder: Path, what: str) -> list[subprocess.CompletedProcess[str]]:
    """A torchrun with one process for each of two machines, which are both this one."""
    (port,) = free_ports(1)
    options = ["--nnodes", "2", "--nproc-per-node", "1", "--local-addr", "127.0.0.1"]
    options += ["--rdzv-backend", "c10d", "--rdzv-id", "1", "--rdzv-endpoint", f"127.0.0.1:{port}"]
    with ThreadPoolExecutor(2) as both:
        started = [both.submit(torchrun, folder, what, *options, GLOO_SOCKET_IFNAME="lo") for _ in range(2)]
        return [one.result() for one in started]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that two processes have left."""
    folder = tmp_path_factory.mktemp("two")
    ended = torchrun(folder, "lead")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder


@pytest.fixture(scope="module")
def found(two: Path) -> dict[str, Any]:
    return torch.load(two / "found.pt", weights_only=False)


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> CachedCohort:
    return cached_in(tmp_path_factory.mktemp("cohort"))


def test_one_process_leads_and_the_other_ends_with_it(two: Path):
    assert (two / "leads-True").exists()
    assert (two / "leads-False").exists()


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_two_processes_make_the_steps_of_one(
    cached: CachedCohort, found: dict[str, Any], tmp_path: Path, gradient: str
):
    fitted, walk = trained(cached, recipe_for(1, gradient), tmp_path, Sink())
    other = found[gradient]
    assert len(walk) == len(other["gradients"]) == 3
    for one, beside in zip(walk, other["gradients"], strict=True):
        # In a batch without an image, its encoder has no gradient in either.
        assert {n for n, g in one.items() if g is None} == {n for n, g in beside.items() if g is None}
        for name, gradient_of_one in one.items():
            if gradient_of_one is not None:
                assert torch.allclose(gradient_of_one, beside[name], atol=1e-5, rtol=0), name
    assert any(g is None for step in walk for g in step.values())
    assert any(g is not None for step in walk for n, g in step.items() if n.startswith("encoders.image"))
    assert fitted.validation_loss == pytest.approx(other["validation_loss"], abs=1e-5)
    assert (fitted.epochs, fitted.steps) == (other["epochs"], other["steps"])


def test_two_machines_with_a_process_each_train_as_one_machine_with_two(found: dict[str, Any], tmp_path: Path):
    for ended in on_two_machines(tmp_path, "machines"):
        assert ended.returncode == 0, ended.stdout + ended.stderr
    apart = torch.load(tmp_path / "found.pt", weights_only=False)
    assert apart["machines"] == 2
    together = found["sum"]
    assert apart["sum"]["seen"] == together["seen"]
    assert "validation_loss" in together["seen"]
    for name in ("validation_loss", "epochs", "steps"):
        assert apart["sum"][name] == together[name], name
    for one, other in zip(apart["sum"]["weights"], together["weights"], strict=True):
        assert torch.equal(one, other)


def test_two_processes_stop_early_keep_the_best_and_resume(found: dict[str, Any]):
    whole, resumed = found["whole"], found["resumed"]
    seen = whole["seen"]["validation_loss"]
    losses = [seen[step] for step in sorted(seen)]
    assert whole["validation_loss"] == pytest.approx(min(losses))
    assert whole["epochs"] == int(np.argmin(losses)) + 1
    assert whole["steps"] == 3 * min(12, whole["epochs"] + 2) < 36
    assert min(resumed["seen"]["train_total"]) == 6
    assert (resumed["epochs"], resumed["steps"]) == (whole["epochs"], whole["steps"])
    for one, other in zip(whole["weights"], resumed["weights"], strict=True):
        assert torch.equal(one, other)


def test_means_over_processes(two: Path, found: dict[str, Any]):
    assert found["between"] == (0, 1), "between calls the processes are not joined"
    first, second = (torch.load(two / "means" / f"{number}.pt", weights_only=True) for number in (0, 1))
    for means in (first, second):
        assert means["world"] == 2
        assert means["mean"].tolist() == [0.5, 1.0]
        assert means["gradients"][0].tolist() == [0.5, 0.5]
        assert means["gradients"][1].tolist() == [0.5, 0.5, 0.5]
        assert means["gradients"][2] is None
        assert means["statistics"].tolist() == [2.0, 2.0]
    assert first["share"].tolist() + second["share"].tolist() == list(range(6))


def test_what_cannot_be_shared_is_refused(found: dict[str, Any]):
    batch, cohort, devices = found["refused"]
    assert "must be a multiple" in batch
    assert "need a whole batch" in cohort
    assert "training.devices is 4 and 2 process(es) were started" in devices


def test_the_death_of_a_process_ends_the_others(tmp_path: Path):
    ended = torchrun(tmp_path, "die")
    assert ended.returncode != 0
    assert "exitcode  : 3" in ended.stderr
    assert not (tmp_path / "leads-True").exists()


@pytest.mark.parametrize(
    ("sizes", "interface", "rule"),
    [
        (("3", "2"), "eth1", "give every machine the same --nproc-per-node"),
        (("4", "2"), "", "GLOO_SOCKET_IFNAME is not set"),
    ],
)
def test_machines_that_cannot_train_together_are_refused(
    monkeypatch: pytest.MonkeyPatch, sizes: tuple[str, str], interface: str, rule: str
):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("WORLD_SIZE", sizes[0])
    monkeypatch.setenv("LOCAL_WORLD_SIZE", sizes[1])
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", interface)
    with pytest.raises(TrainingError, match=rule), process_group(int(sizes[0])):
        pass


def test_each_machine_needs_gpus_for_its_own_processes_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "4", "GLOO_SOCKET_IFNAME": "eth1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with (
        pytest.raises(TrainingError, match="2 processes were started on this machine, and it has 1 GPU"),
        process_group(4),
    ):
        pass


def test_several_devices_without_torchrun_are_refused():
    with (
        pytest.raises(TrainingError, match=r"1 process\(es\) were started; .*torchrun --nproc-per-node 2"),
        process_group(2),
    ):
        pass


def test_fewer_gpus_than_processes_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr("training.runtime.process_group._torchrun_size", lambda: 2)
    with pytest.raises(TrainingError, match="has 1 GPU"), process_group(2):
        pass


def test_a_command_starts_torchrun_with_itself_and_ends_as_its_first_failure(monkeypatch: pytest.MonkeyPatch):
    started: list[list[str]] = []
    monkeypatch.setattr("torch.distributed.run.main", started.append)
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "INFO")
    monkeypatch.delenv("TORCH_CPP_LOG_LEVEL")
    assert relaunch(1, ["train"]) is None
    assert relaunch(2, ["train", "tiny"]) == 0
    assert started == [["--standalone", "--nproc-per-node", "2", "-m", "consilium.cli", "train", "tiny"]]
    assert os.environ["TORCH_CPP_LOG_LEVEL"] == "ERROR", "no process warns of what is as it should be"

    def fails(_: list[str]) -> None:
        raise ChildFailedError("train", {0: ProcessFailure(0, 17, 2, "no file")})

    monkeypatch.setattr("torch.distributed.run.main", fails)
    assert relaunch(2, ["train"]) == 2
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    assert relaunch(2, ["train"]) is None, "torchrun has started this one"
