"""OpenVINO: the encoders of images and of notes, over what is there of them, converted in memory.

That is where nearly all of the time goes. What has branches, what is absent, and everything that follows from the
tokens stays in torch and float32.

OpenVINO tells Intel that it was imported, and what it was asked to convert, where its package `openvino_telemetry` can
be imported. Here it cannot.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from consilium.domain.errors import InputError
from consilium.inference.self_test import Backend
from consilium.modalities.image.encoder import ImageEncoder
from consilium.modalities.text.encoder import TextEncoder
from consilium.modalities.tokens import Dense
from consilium.network.diagnosis_model import DiagnosisModel, Logits
from consilium.preprocessing.batch import Batch

sys.modules["openvino_telemetry"] = cast(Any, None)
try:
    import openvino as ov
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    from consilium.inference.backends.quantization import quantize
except ImportError:
    raise InputError("backend", "openvino", "needs `pip install consilium[cpu-fast]`") from None

_ANY = -1
_EXAMPLES = 2
"""Studies, and word pieces of each, that an encoder is traced with. One would be taken for a constant."""


class OpenvinoNetwork:
    """`model`, on the CPU, by OpenVINO.

    Parameters
    ----------
    model : DiagnosisModel
        On the CPU, in evaluation mode.
    backend : Backend
        Says which numbers the encoders of images and notes reckon with; bfloat16 is float32 on a CPU without it.
    threads : int
    references : iterable of Batch
        Reference studies, which 8-bit integers are scaled by.

    Raises
    ------
    InputError
        Where OpenVINO cannot run this model.
    """

    def __init__(self, model: DiagnosisModel, backend: Backend, threads: int, references: Iterable[Batch] = ()) -> None:
        if backend is Backend.OPENVINO_INT8 and "image" not in model.modalities:
            raise InputError("backend", backend.value, "is for models that read images")
        self._model = model
        self._backend = backend
        self._threads = threads
        self._core = ov.Core()
        self._dense: dict[str, Dense] = {}
        for modality in model.modalities:
            encoder = model.encoders[modality]
            if isinstance(encoder, ImageEncoder):
                images = torch.zeros(_EXAMPLES, *encoder.typical.shape)
                views = torch.zeros(_EXAMPLES, dtype=torch.long)
                self._dense[modality] = self._runnable(encoder, images, views, references)
            elif isinstance(encoder, TextEncoder):
                pieces = torch.zeros(_EXAMPLES, _EXAMPLES, dtype=torch.long)
                self._dense[modality] = self._runnable(encoder, pieces, pieces == 0)

    def __call__(self, batch: Batch) -> Logits:
        return self._model.conclude(self._model.encode(batch, self._dense))

    def _runnable(
        self, encoder: ImageEncoder | TextEncoder, first: Tensor, second: Tensor, references: Iterable[Batch] = ()
    ) -> Dense:
        """`encoder.dense`, of inputs like these examples, for any number of studies and word pieces."""
        try:
            model = _converted(_DensePart(encoder).eval(), (first, second))
            # Studies, pieces and views are any number; images [n, 1, S, S] are always of one size.
            fixed = list(first.shape[1:]) if isinstance(encoder, ImageEncoder) else [_ANY]
            model.reshape({0: ov.PartialShape([_ANY, *fixed]), 1: ov.PartialShape([_ANY] * second.ndim)})
            if isinstance(encoder, ImageEncoder) and self._backend is Backend.OPENVINO_INT8:
                seen = ((batch.images[batch.image_mask], batch.views[batch.image_mask]) for batch in references)
                quantize(model, (sample for sample in seen if len(sample[0])), self._compiled)
            compiled = self._compiled(model, "f32" if self._backend is Backend.OPENVINO else "bf16")
        except (RuntimeError, TypeError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise InputError("backend", self._backend.value, f"cannot run this model ({reason})") from error

        def dense(first: Tensor, second: Tensor) -> Tensor:
            found = compiled([first.contiguous().numpy(), second.contiguous().numpy()], share_inputs=True)
            return torch.from_numpy(found[0])

        return dense

    def _compiled(self, model: ov.Model, precision: str = "f32") -> ov.CompiledModel:
        return self._core.compile_model(
            model,
            "CPU",
            {
                # Services that stand side by side would all be tied to the same cores.
                "ENABLE_CPU_PINNING": False,
                "INFERENCE_NUM_THREADS": self._threads,
                "INFERENCE_PRECISION_HINT": precision,
                "PERFORMANCE_HINT": "LATENCY",
            },
        )


class _DensePart(nn.Module):
    """`dense` as a module, which is what can be traced."""

    def __init__(self, encoder: ImageEncoder | TextEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.encoder.dense(first, second)


def _converted(part: nn.Module, examples: tuple[Tensor, ...]) -> ov.Model:
    with torch.no_grad(), warnings.catch_warnings():
        # What tracing took for constants is what it should; every accepted model has shown that (see acceptance).
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(part, examples, check_trace=False)  # type: ignore[no-untyped-call]
        decoder = TorchScriptPythonDecoder(traced, example_input=examples)
        frontend = FrontEndManager().load_by_framework("pytorch")
        return frontend.convert(frontend.load(decoder))
