"""What a model costs where it serves: loaded by its backend in a process of its own, asked its reference studies.

``python -m training.lifecycle.serving_cost FOLDER BACKEND DEVICE`` writes one JSON document. The process is a fresh
one, so that its memory is the model's and not that of whoever asks.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from consilium.domain.errors import ConsiliumError, ModelFailure
from consilium.system.memory import peak_memory
from training.lifecycle.gate_file import ServingGate
from training.lifecycle.gate_results import GateResult

_WARM, _TIMED = 5, 60
_LONGEST_S = 600


def serving_gates(wanted: ServingGate, folder: Path) -> list[GateResult]:
    """Acceptance of the reference studies, latency and memory."""
    bound = f"within the backend's tolerance, backend {wanted.backend}"
    try:
        found = measure_in_process(folder, wanted.backend, wanted.device)
    except ConsiliumError as error:
        return [GateResult.unmeasured("acceptance", error, bound)]
    if "refused" in found:
        return [GateResult.of("acceptance", False, str(found["refused"]), bound)]
    accepted, p95, memory = found["acceptance"], float(found["p95_ms"]), float(found["memory_mb"])
    answered = f"{accepted['reference_studies']} studies on {accepted['name']}, {found['device']}"
    off = float(accepted["largest_deviation"])
    return [
        GateResult.of("acceptance", True, f"{answered}, off by {off:.4f} at most", bound, {"largest_deviation": off}),
        GateResult.of(
            "latency",
            p95 <= wanted.p95_ms,
            f"p50 {found['p50_ms']:.1f} ms, p95 {p95:.1f} ms",
            f"p95 at most {wanted.p95_ms:g} ms",
            {"p50_ms": float(found["p50_ms"]), "p95_ms": p95},
        ),
        GateResult.of(
            "memory", memory <= wanted.memory_mb, f"{memory:.0f} MB", f"at most {wanted.memory_mb:g} MB", {"mb": memory}
        ),
    ]


def measure_in_process(folder: Path, backend: str, device: str) -> dict[str, Any]:
    """`measure` in a new process.

    Raises
    ------
    ModelFailure
        Where that process ends without an answer.
    """
    command = [sys.executable, "-m", __name__, str(folder), backend, device]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise ModelFailure(f"the model did not answer its reference studies within {_LONGEST_S} s") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ModelFailure(f"the process that answers the reference studies ended with {done.returncode}: {last}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(folder: str, backend: str, device: str) -> dict[str, Any]:
    """Acceptance, and what one answer costs; why not, under ``refused``, where the model does not pass acceptance.

    Returns
    -------
    dict
        ``acceptance`` (`consilium.inference.self_test.Acceptance`), ``device``, ``p50_ms`` and ``p95_ms`` of the
        answer to one study in memory, ``memory_mb`` (most of the process or, where larger, of the GPU; 10⁶ bytes).
    """
    import torch

    from consilium.inference.diagnostician import Diagnostician
    from consilium.inference.self_test import Tolerance

    try:
        model = Diagnostician.load(folder, device, backend)
        accepted = model.accept(Tolerance())
    except ConsiliumError as error:
        return {"refused": str(error)}
    studies = [reference.study(model.variables) for reference in model.references.studies]
    seconds = []
    for number in range(_WARM + _TIMED):
        begun = time.perf_counter()
        model.diagnose([studies[number % len(studies)]])
        seconds.append(time.perf_counter() - begun)
    p50, p95 = np.quantile(seconds[_WARM:], [0.5, 0.95]) * 1e3
    most = peak_memory()
    if model.device.type == "cuda":
        most = max(most, torch.cuda.max_memory_reserved(model.device))
    return {
        "acceptance": accepted.to_json(),
        "device": str(model.device),
        "p50_ms": float(p50),
        "p95_ms": float(p95),
        "memory_mb": most / 1e6,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(*sys.argv[1:4])) + "\n")
