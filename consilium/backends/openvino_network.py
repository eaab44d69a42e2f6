"""OpenVINO: the model's three parts without branches, converted in memory.

The encoders of images and of notes over what is there of them, and everything that follows from the tokens, the
observation encoder included. What is absent is told apart between them, in torch.

`openvino.convert_model` is not called: it tells Intel that it was, unless it is told not to.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from consilium.collate import Batch
from consilium.encoders import Tokens
from consilium.encoders.image import ImageEncoder
from consilium.encoders.observations import ObservationsEncoder
from consilium.encoders.text import TextEncoder
from consilium.errors import InputError
from consilium.model import FUSED, DiagnosisModel, Logits
from consilium.study import Modality

try:
    import openvino as ov
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
except ImportError:
    raise InputError("backend", "openvino", "needs `pip install consilium[cpu-fast]`") from None

_ANY = -1
_EXAMPLES = 2
"""Studies that a part is traced with. One is taken for a constant."""

Run = Callable[..., list[Tensor]]


class OpenvinoNetwork:
    """`model`, on the CPU, by OpenVINO.

    Parameters
    ----------
    model : DiagnosisModel
        On the CPU, in evaluation mode.
    precision : str
        Of the encoders of images and notes: ``f32``, or ``bf16``, which is float32 on a CPU without it.
    threads : int

    Raises
    ------
    InputError
        Where OpenVINO cannot run this model.
    """

    def __init__(self, model: DiagnosisModel, precision: str, threads: int) -> None:
        self._model = model
        self._threads = threads
        self._core = ov.Core()
        self._dense: dict[Modality, Run] = {}
        for modality in model.modalities:
            encoder = model.encoders[modality.value]
            if isinstance(encoder, ImageEncoder):
                image = torch.zeros(_EXAMPLES, *encoder.typical.shape)
                views = torch.zeros(_EXAMPLES, dtype=torch.long)
                self._dense[modality] = self._compiled(_DensePart(encoder), [image, views], precision)
            elif isinstance(encoder, TextEncoder):
                ids = torch.zeros(_EXAMPLES, 8, dtype=torch.long)
                self._dense[modality] = self._compiled(_DensePart(encoder), [ids, ids == 0], precision)
        conclusion = _Conclusion(model)
        self._features = conclusion.feature_names
        # In float32 whatever the encoders' precision: it takes little of the time, and its rounding is the answer's.
        self._conclude = self._compiled(conclusion, conclusion.examples(), "f32")

    def __call__(self, batch: Batch) -> Logits:
        inputs: list[Tensor] = []
        present = {}
        for modality in self._model.modalities:
            values, mask = self._said(modality, batch)
            inputs += [values, mask]
            present[modality] = mask.any(dim=1)
        fused, *others = self._conclude(*inputs)
        opinions = dict(zip(present, others[: len(present)], strict=True))
        return Logits(fused, opinions, present, dict(zip(self._features, others[len(present) :], strict=True)))

    def _said(self, modality: Modality, batch: Batch) -> tuple[Tensor, Tensor]:
        """Tokens and their mask; of observations, which have no branches, the values themselves."""
        if modality is Modality.OBSERVATIONS:
            return batch.observations, batch.observation_mask
        encoder, run = self._model.encoders[modality.value], self._dense[modality]

        def dense(first: Tensor, second: Tensor) -> Tensor:
            return run(first, second)[0]

        if modality is Modality.IMAGE:
            said: Tokens = encoder(batch.images, batch.image_mask, batch.views, dense)
        else:
            said = encoder(batch.input_ids, batch.text_mask, dense=dense)
        return said.values, said.mask

    def _compiled(self, part: nn.Module, examples: list[Tensor], precision: str) -> Run:
        """`part` for any number of studies and tokens."""
        try:
            model = _converted(part.eval(), tuple(examples))
            model.reshape({number: _open_shape(example) for number, example in enumerate(examples)})
            compiled = self._core.compile_model(
                model,
                "CPU",
                {
                    "INFERENCE_NUM_THREADS": self._threads,
                    "INFERENCE_PRECISION_HINT": precision,
                    "PERFORMANCE_HINT": "LATENCY",
                },
            )
        except (RuntimeError, TypeError, ValueError) as error:
            first = str(error).strip().partition("\n")[0]
            raise InputError("backend", "openvino", f"cannot run this model ({first})") from error

        def run(*inputs: Tensor) -> list[Tensor]:
            found = compiled([tensor.contiguous().numpy() for tensor in inputs], share_inputs=True)
            return [torch.from_numpy(found[place]) for place in range(len(compiled.outputs))]

        return run


class _DensePart(nn.Module):
    """An encoder over what is there."""

    def __init__(self, encoder: ImageEncoder | TextEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.encoder.dense(first, second)


class _Conclusion(nn.Module):
    """Everything after the encoders of images and notes: tensors in and out, in the order of the model's modalities.

    In: two tensors for each modality, see `OpenvinoNetwork._said`. Out: fused logits, opinions, features.
    """

    def __init__(self, model: DiagnosisModel) -> None:
        super().__init__()
        self.model = model
        self.feature_names = (*(modality.value for modality in model.modalities), FUSED)

    def examples(self) -> list[Tensor]:
        """Inputs to trace with."""
        found = []
        for modality in self.model.modalities:
            encoder = self.model.encoders[modality.value]
            if isinstance(encoder, ObservationsEncoder):
                values = torch.zeros(_EXAMPLES, encoder.feature.shape[0])
            else:
                values = torch.zeros(_EXAMPLES, 3, cast(int, encoder.width))
            found += [values, torch.ones(values.shape[:2], dtype=torch.bool)]
        return found

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        tokens = {}
        for place, modality in enumerate(self.model.modalities):
            values, mask = inputs[2 * place : 2 * place + 2]
            is_raw = modality is Modality.OBSERVATIONS
            tokens[modality] = self.model.encoders[modality.value](values, mask) if is_raw else Tokens(values, mask)
        logits = self.model.conclude(tokens)
        features = [logits.features[name] for name in self.feature_names]
        return (logits.fused, *logits.opinions.values(), *features)


def _converted(part: nn.Module, examples: tuple[Tensor, ...]) -> ov.Model:
    with torch.no_grad(), warnings.catch_warnings():
        # What tracing took for constants is what it should; every accepted model has shown that (see acceptance).
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(part, examples, check_trace=False)  # type: ignore[no-untyped-call]
        decoder = TorchScriptPythonDecoder(traced, example_input=examples)
        frontend = FrontEndManager().load_by_framework("pytorch")
        return frontend.convert(frontend.load(decoder))


def _open_shape(example: Tensor) -> ov.PartialShape:
    """Any number of studies, and of tokens where there are some."""
    # Images [n, 1, S, S], tokens [B, T, D], masks and ids [B, T], observations [B, A], views [n].
    fixed = {4: example.shape[1:], 3: example.shape[2:]}.get(example.ndim, ())
    return ov.PartialShape([_ANY] * (example.ndim - len(fixed)) + list(fixed))
