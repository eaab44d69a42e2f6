"""Network: a model, run by one backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias, cast

import torch

from consilium.domain.errors import InputError
from consilium.inference.self_test import Backend
from consilium.network.diagnosis_model import DiagnosisModel, Logits
from consilium.preprocessing.batch import Batch

Network: TypeAlias = Callable[[Batch], Logits]

COMPANY: Mapping[Backend, float] = MappingProxyType(
    {
        Backend.EAGER: 1e-5,
        Backend.OPENVINO: 1e-5,
        Backend.BF16: 0.01,
        Backend.OPENVINO_BF16: 0.01,
    }
)
"""By how much a probability may differ between a study alone and the same study in a batch of others."""

_CPU_ONLY = (Backend.OPENVINO, Backend.OPENVINO_BF16)


def choose_backend(name: str, device: torch.device) -> Backend:
    """``auto``: eager float32 on the CPU, bfloat16 on a GPU.

    Raises
    ------
    InputError
        For a name that is no backend, or of one that does not run on `device`.
    """
    if name == "auto":
        return Backend.BF16 if device.type == "cuda" else Backend.EAGER
    try:
        backend = Backend(name)
    except ValueError:
        raise InputError("backend", name, f"must be auto, {', '.join(Backend)}") from None
    if backend in _CPU_ONLY and device.type != "cpu":
        raise InputError("backend", name, f"runs on the CPU, and the device is {device.type}")
    return backend


def build_network(backend: Backend, model: DiagnosisModel, threads: int | None = None) -> Network:
    """`model`, in evaluation mode on its device, run by `backend`.

    Parameters
    ----------
    threads : int, optional
        Of a backend with threads of its own; None: as many as torch has here.

    Raises
    ------
    InputError
        Where the backend is not installed, or cannot run this model.
    """
    if backend is Backend.EAGER:
        return model
    if backend is Backend.BF16:
        return _bf16(model)
    from consilium.inference.backends.openvino_network import OpenvinoNetwork

    return OpenvinoNetwork(model, backend, threads or torch.get_num_threads())


def _bf16(model: DiagnosisModel) -> Network:
    device = next(model.parameters()).device.type
    # Of the order in memory alone: the numbers stay as they are for whoever else holds the model.
    cast(Any, model).to(memory_format=torch.channels_last)

    def network(batch: Batch) -> Logits:
        with torch.autocast(device, torch.bfloat16):
            return model(batch)

    return network
