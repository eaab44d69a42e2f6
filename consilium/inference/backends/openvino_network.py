"""OpenVINO: the dense parts of the encoders that have one, converted in memory.

That is where nearly all of the time goes. What has branches, what is absent, and everything that follows from the
tokens stays in torch and float32.

OpenVINO tells Intel that it was imported, and what it was asked to convert, where its package `openvino_telemetry` can
be imported. Here it cannot.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any, cast

import torch
from torch import Tensor, nn

from consilium.domain.errors import InputError
from consilium.inference.self_test import Backend
from consilium.modalities.tokens import Dense, DenseEncoder
from consilium.network.diagnosis_model import DiagnosisModel, Logits
from consilium.preprocessing.batch import Batch

sys.modules["openvino_telemetry"] = cast(Any, None)
try:
    import openvino as ov
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
except ImportError:
    raise InputError("backend", "openvino", "needs `pip install consilium[cpu-fast]`") from None

_EXAMPLES = 2
"""Length of every axis of the examples that an encoder is traced with. One would be taken for a constant."""


class OpenvinoNetwork:
    """`model`, on the CPU, by OpenVINO.

    Parameters
    ----------
    model : DiagnosisModel
        On the CPU, in evaluation mode.
    backend : Backend
        Says which numbers the dense parts are computed in; bfloat16 is float32 on a CPU without it.
    threads : int

    Raises
    ------
    InputError
        Where OpenVINO cannot run this model.
    """

    def __init__(self, model: DiagnosisModel, backend: Backend, threads: int) -> None:
        dense = {name: encoder for name, encoder in model.encoders.items() if isinstance(encoder, DenseEncoder)}
        self._model = model
        self._backend = backend
        self._threads = threads
        self._core = ov.Core()
        self._dense: dict[str, Dense] = {name: self._runnable(encoder) for name, encoder in dense.items()}

    def __call__(self, batch: Batch) -> Logits:
        return self._model.conclude(self._model.encode(batch, self._dense))

    def _runnable(self, encoder: DenseEncoder) -> Dense:
        """`encoder.dense` for inputs of the lengths that it allows."""
        try:
            model = _converted(_DensePart(encoder).eval(), encoder.dense_examples(_EXAMPLES))
            model.reshape({place: ov.PartialShape(list(axes)) for place, axes in enumerate(encoder.dense_axes)})
            compiled = self._compiled(model)
        except (RuntimeError, TypeError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise InputError("backend", self._backend.value, f"cannot run this model ({reason})") from error

        def dense(*tensors: Tensor) -> Tensor:
            found = compiled([tensor.contiguous().numpy() for tensor in tensors], share_inputs=True)
            return torch.from_numpy(found[0])

        return dense

    def _compiled(self, model: ov.Model) -> ov.CompiledModel:
        return self._core.compile_model(
            model,
            "CPU",
            {
                # Services that stand side by side would all be tied to the same cores.
                "ENABLE_CPU_PINNING": False,
                "INFERENCE_NUM_THREADS": self._threads,
                "INFERENCE_PRECISION_HINT": "f32" if self._backend is Backend.OPENVINO else "bf16",
                "PERFORMANCE_HINT": "LATENCY",
            },
        )


class _DensePart(nn.Module):
    """`dense` as a module, which is what can be traced."""

    def __init__(self, encoder: DenseEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.encoder.dense(*tensors)


def _converted(part: nn.Module, examples: tuple[Tensor, ...]) -> ov.Model:
    with torch.no_grad(), warnings.catch_warnings():
        # What tracing took for constants is what it should; every accepted model has shown that (see acceptance).
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(part, examples, check_trace=False)  # type: ignore[no-untyped-call]
        decoder = TorchScriptPythonDecoder(traced, example_input=examples)
        frontend = FrontEndManager().load_by_framework("pytorch")
        return frontend.convert(frontend.load(decoder))
