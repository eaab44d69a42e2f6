"""What every test stands on: stores and caches inside the clone, no network, no telemetry; the real cohort."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from consilium.system.environment import Variable

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parents[1]
VAR = ROOT / "var"
CHROMIUM = shutil.which("chromium")

# Set before any test module imports torch, MLflow or BentoML: they read these at import.
os.environ.update(
    BENTOML_HOME=str(VAR / "bentoml"),
    HF_HOME=str(VAR / "huggingface"),
    TORCH_HOME=str(VAR / "torch"),
    XDG_CACHE_HOME=str(VAR / "cache"),
    XDG_CONFIG_HOME=str(VAR / "config"),
    XDG_DATA_HOME=str(VAR / "data"),
    MPLCONFIGDIR=str(VAR / "matplotlib"),
    MPLBACKEND="Agg",
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    DO_NOT_TRACK="1",
    BENTOML_DO_NOT_TRACK="True",
    MLFLOW_DISABLE_TELEMETRY="true",
    TOKENIZERS_PARALLELISM="false",
    # Times without an offset are read alike on every machine.
    CONSILIUM_TIME_ZONE="UTC",
)
# More threads than cores cost several times their gain, and test workers share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


NOT_QUICK = (
    "tests/integration",
    "tests/soak",
    "tests/soak_hospital",
    "tests/hospital/studies/test_study_walk.py",
    "tests/test_benchmarks.py",
    "tests/test_project.py",
    "tests/test_web.py",
    "tests/consilium/inference/backends",
    "tests/consilium/modalities/image/test_against_dcmtk.py",
    "tests/consilium/artifacts/test_local_cache.py",
    "tests/consilium/cli/test_commands.py",
    "tests/consilium/cli/test_light_commands.py",
    "tests/consilium/cli/test_loop_year.py",
    "tests/consilium/ingest/test_decode_pool.py",
    "tests/consilium/system/test_lazy_packages.py",
    "tests/consilium/inference/test_pyfunc.py",
    "tests/hospital/running/test_process.py",
    "tests/hospital/store",
    "tests/hospital/dicom",
    "tests/hospital/hl7/test_killed_receiver.py",
    "tests/hospital/fhir/test_real_server.py",
    "tests/service/jobs",
    "tests/service/studies",
    "tests/service/audit_log",
    "tests/service/serving/test_alias_follower.py",
    "tests/service/packaging/test_build.py",
    "tests/service/rollout/test_walk.py",
    "tests/service/serving/test_live_model.py",
    "tests/training/archive",
    "tests/training/experiments/fusion_comparison",
    "tests/training/evaluation/out_of_distribution",
    "tests/training/fitting/test_averaging.py",
    "tests/training/card/test_card.py",
    "tests/training/inspection/test_inspect.py",
    "tests/training/lifecycle/test_cohort_versions.py",
    "tests/training/lifecycle/test_gate.py",
    "tests/training/lifecycle/test_retrain.py",
    "tests/training/pipeline/test_compare_models.py",
    "tests/training/pipeline/test_targets.py",
    "tests/training/data/test_datamodule.py",
    "tests/training/data/test_file_cache.py",
    "tests/training/runtime/test_interrupts.py",
    "tests/training/runtime/test_distributed.py",
    "tests/training/evaluation/test_evaluate.py",
    "tests/training/pipeline/test_evaluate_registered.py",
    "tests/training/evaluation/test_faithfulness.py",
    "tests/training/fitting/test_fit.py",
    "tests/training/fitting/test_lightning_module.py",
    "tests/training/pipeline/test_reference_studies.py",
    "tests/training/pipeline/test_resume.py",
    "tests/training/pipeline/test_train.py",
    "tests/training/pipeline/test_sweep.py",
    "tests/training/fitting/test_teachers.py",
    "tests/training/pretraining/test_pretrain.py",
    "tests/training/cohorts/phantom/test_reports_leak.py",
    "tests/consilium/artifacts/test_pretrained_encoders.py",
    "tests/consilium/modalities/image/backbones/test_families.py",
    "tests/consilium/modalities/text/test_families.py",
)
"""What needs a server, a browser, another program or a training, or takes long: left out by ``--quick``."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="only what needs no server, browser or training")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """None: as ever."""
    left_out = config.getoption("--quick") and any(collection_path == ROOT / place for place in NOT_QUICK)
    return True if left_out else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first: workers take a file each, and the last ones are short, so that they end together."""
    long = {ROOT / place for place in NOT_QUICK}
    items.sort(key=lambda item: long.isdisjoint((item.path, *item.path.parents)))


@pytest.fixture(scope="session", autouse=True)
def tracking_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An MLflow store of this worker's own, so that no test writes into the user's."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlruns') / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.delenv("MLFLOW_REGISTRY_URI", raising=False)
        yield uri


@pytest.fixture(scope="session", autouse=True)
def session_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A ``CONSILIUM_HOME`` of this worker's own: no test writes into the user's record of answers."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONSILIUM_HOME", str(home))
        yield home


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, as a folder to serve."""
    from consilium.artifacts.artifact import save_artifact
    from tests.consilium.tiny_artifact import tiny_artifact

    folder = tmp_path_factory.mktemp("tiny") / "artifact"
    save_artifact(folder, tiny_artifact())
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, the Debian package."""
    if CHROMIUM is None:
        pytest.skip("the Debian package chromium is not installed")
    from playwright.sync_api import sync_playwright

    quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def covid_chestxray_root() -> Path:
    """The real cohort: ``$CONSILIUM_DATA/covid-chestxray``, or beside the clone under ``shared/data``."""
    data = Path(os.environ.get(Variable.DATA, ROOT.parent / "shared" / "data"))
    root = data / "covid-chestxray"
    if not (root / "metadata.csv").is_file():
        pytest.skip("the covid-chestxray cohort is not here: CONSILIUM_DATA names the folder that holds it")
    return root
