"""Quantization: the two-dimensional convolutions of a converted encoder in 8-bit integers.

What a convolution multiplies, and what is concatenated between two, is rounded to one of 256 values by a FakeQuantize,
which OpenVINO makes integer arithmetic of (its "low precision transformations"). Weights are scaled by the largest of
each output channel; what flows, by the least and largest that samples bring, and some room. The first convolution stays
as it is: it is a hundredth of the work, and all others work on what it leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset13 as ops
from torch import Tensor

Array: TypeAlias = npt.NDArray[np.float32]
Axes: TypeAlias = tuple[int, ...]

_WHOLE, _CHANNELS = (0, 1, 2, 3), (0, 2, 3)
"""Axes of a map [n, C, h, w] that one scale is for."""
_ROOM = 1.25
"""Other studies bring larger numbers than the samples, and what is beyond is cut off; more room makes coarser steps."""
_LEAST_SCALE = 1e-8
_UNSIGNED, _SIGNED, _SYMMETRIC = (0, 255), (-128, 127), (-127, 127)


def quantize(
    model: ov.Model, samples: Iterable[tuple[Tensor, ...]], compiled: Callable[[ov.Model], ov.CompiledModel]
) -> None:
    """Quantize `model` in place.

    Parameters
    ----------
    samples : iterable of tuple of Tensor
        As they will be its inputs.
    compiled : callable
        Makes a model run in float32.

    Raises
    ------
    ValueError
        Where there is nothing to quantize, or no sample.
    """
    convolutions = _operations(model, "Convolution")[1:]
    if not convolutions:
        raise ValueError("its encoder has no convolutions beyond the first")
    # What is concatenated is scaled by channel, each as large as its own layer made it; a convolution adds them all up.
    axes: dict[ov.Output, Axes] = dict.fromkeys(_concatenated(model), _CHANNELS)
    axes |= {op.input_value(0): _WHOLE for op in convolutions}
    for value, (low, high) in _ranges(model, axes, samples, compiled).items():
        readers = value.get_target_inputs()
        rounded = _rounded(value, _ROOM * low, _ROOM * high, _UNSIGNED if low.min() >= 0 else _SIGNED)
        for reader in readers:
            reader.replace_source_output(rounded)
    for op in convolutions:
        weights = op.input_value(1)
        largest = np.abs(weights.get_node().data).max(axis=(1, 2, 3), keepdims=True)
        op.input(1).replace_source_output(_rounded(weights, -largest, largest, _SYMMETRIC))
    model.validate_nodes_and_infer_types()


def _operations(model: ov.Model, kind: str) -> list[ov.Node]:
    return [op for op in model.get_ordered_ops() if op.get_type_name() == kind]


def _concatenated(model: ov.Model) -> list[ov.Output]:
    """Every map that is concatenated with others, and is no such concatenation itself."""
    joints = [op for op in _operations(model, "Concat") if len(op.get_output_partial_shape(0)) == len(_WHOLE)]
    values = [value for op in joints for value in op.input_values()]
    return [value for value in values if value.get_node().get_type_name() != "Concat"]


def _ranges(
    model: ov.Model,
    axes: dict[ov.Output, Axes],
    samples: Iterable[tuple[Tensor, ...]],
    compiled: Callable[[ov.Model], ov.CompiledModel],
) -> dict[ov.Output, tuple[Array, Array]]:
    """Least and largest of each value of `model`, over its `axes` and the samples."""
    both = (ops.reduce_min, ops.reduce_max)
    extremes = [reduce(value, over, keep_dims=True) for value, over in axes.items() for reduce in both]
    probe = compiled(ov.Model([ops.result(extreme) for extreme in extremes], model.get_parameters()))
    found = [probe([tensor.numpy() for tensor in sample]).to_tuple() for sample in samples]
    if not found:
        raise ValueError("there is no reference study to scale it by")
    columns = list(zip(*found, strict=True))
    lows, highs = map(np.minimum.reduce, columns[0::2]), map(np.maximum.reduce, columns[1::2])
    return dict(zip(axes, zip(lows, highs, strict=True), strict=True))


def _rounded(value: ov.Output, low: Array, high: Array, integers: tuple[int, int]) -> ov.Output:
    """`value` as multiples of a scale by `integers`, which reach from `low` to `high`; 0 stays 0."""
    least, most = integers
    scale = np.maximum(high / most, _LEAST_SCALE)
    if least:
        scale = np.maximum(scale, low / least)
    ends = [ops.constant((end * scale).astype(np.float32)) for end in integers]
    return ops.fake_quantize(value, *ends, *ends, levels=most - least + 1).output(0)
