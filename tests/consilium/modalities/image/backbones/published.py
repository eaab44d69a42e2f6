"""State dicts as others publish them, and what their networks do, written down from torchvision's without it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCKS = (6, 12, 24, 16)
_LAYERS = (3, 4, 6, 3)


class _Made(dict[str, Tensor]):
    """A state dict that is filled with random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.random = torch.Generator().manual_seed(0)

    def conv(self, key: str, out: int, inward: int, side: int) -> None:
        scale = (2 / (inward * side**2)) ** 0.5
        self[f"{key}.weight"] = torch.randn(out, inward, side, side, generator=self.random) * scale

    def norm(self, key: str, channels: int) -> None:
        for name in ("weight", "running_var"):
            self[f"{key}.{name}"] = torch.rand(channels, generator=self.random) + 0.5
        for name in ("bias", "running_mean"):
            self[f"{key}.{name}"] = torch.randn(channels, generator=self.random) * 0.1


def densenet121(channels: int) -> dict[str, Tensor]:
    """Keys as torchvision's DenseNet-121 has them; without counters of batches, as old files are."""
    made = _Made()
    made.conv("features.conv0", 64, channels, 7)
    made.norm("features.norm0", 64)
    width = 64
    for number, layers in enumerate(_BLOCKS, start=1):
        for layer in range(1, layers + 1):
            key = f"features.denseblock{number}.denselayer{layer}"
            made.norm(f"{key}.norm1", width)
            made.conv(f"{key}.conv1", 128, width, 1)
            made.norm(f"{key}.norm2", 128)
            made.conv(f"{key}.conv2", 32, 128, 3)
            width += 32
        made.norm("features.norm5" if number == 4 else f"features.transition{number}.norm", width)
        if number < 4:
            made.conv(f"features.transition{number}.conv", width // 2, width, 1)
            width //= 2
    made["classifier.weight"], made["classifier.bias"] = torch.zeros(18, width), torch.zeros(18)
    return dict(made)


def run_densenet121(state: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """The last map, rectified."""
    x = F.max_pool2d(
        F.relu(_norm(state, "features.norm0", F.conv2d(x, state["features.conv0.weight"], None, 2, 3))), 3, 2, 1
    )
    for number, layers in enumerate(_BLOCKS, start=1):
        for layer in range(1, layers + 1):
            key = f"features.denseblock{number}.denselayer{layer}"
            new = F.conv2d(F.relu(_norm(state, f"{key}.norm1", x)), state[f"{key}.conv1.weight"])
            new = F.conv2d(F.relu(_norm(state, f"{key}.norm2", new)), state[f"{key}.conv2.weight"], None, 1, 1)
            x = torch.cat([x, new], dim=1)
        if number < 4:
            key = f"features.transition{number}"
            x = F.avg_pool2d(F.conv2d(F.relu(_norm(state, f"{key}.norm", x)), state[f"{key}.conv.weight"]), 2)
    return F.relu(_norm(state, "features.norm5", x))


def resnet50(channels: int = 3) -> dict[str, Tensor]:
    """Keys as torchvision's ResNet-50 has them."""
    made = _Made()
    made.conv("conv1", 64, channels, 7)
    made.norm("bn1", 64)
    inward = 64
    for number, layers in enumerate(_LAYERS, start=1):
        width = 32 * 2**number
        for layer in range(layers):
            key = f"layer{number}.{layer}"
            for place, (out, wide, side) in enumerate(
                ((width, inward, 1), (width, width, 3), (4 * width, width, 1)), start=1
            ):
                made.conv(f"{key}.conv{place}", out, wide, side)
                made.norm(f"{key}.bn{place}", out)
            if layer == 0:
                made.conv(f"{key}.downsample.0", 4 * width, inward, 1)
                made.norm(f"{key}.downsample.1", 4 * width)
            inward = 4 * width
    made["fc.weight"], made["fc.bias"] = torch.zeros(10, inward), torch.zeros(10)
    return dict(made)


def run_resnet50(state: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """The last map; the stride of a block is its 3 × 3 convolution's."""
    x = F.max_pool2d(F.relu(_norm(state, "bn1", F.conv2d(x, state["conv1.weight"], None, 2, 3))), 3, 2, 1)
    for number, layer in ((n, k) for n in range(1, 5) for k in range(_LAYERS[n - 1])):
        key, stride = f"layer{number}.{layer}", 2 if layer == 0 and number > 1 else 1
        new = F.relu(_norm(state, f"{key}.bn1", F.conv2d(x, state[f"{key}.conv1.weight"])))
        new = F.relu(_norm(state, f"{key}.bn2", F.conv2d(new, state[f"{key}.conv2.weight"], None, stride, 1)))
        new = _norm(state, f"{key}.bn3", F.conv2d(new, state[f"{key}.conv3.weight"]))
        if layer == 0:
            x = _norm(state, f"{key}.downsample.1", F.conv2d(x, state[f"{key}.downsample.0.weight"], None, stride))
        x = F.relu(x + new)
    return x


def as_radimagenet_resnet(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Under the names of a sequence of the network's children."""
    places = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    found = {}
    for (key, tensor), (name, place) in product(state.items(), places.items()):
        if key.startswith(f"{name}."):
            found[f"backbone.{place}.{key.removeprefix(f'{name}.')}"] = tensor
    return found


def _norm(state: Mapping[str, Tensor], key: str, x: Tensor) -> Tensor:
    numbers = (state[f"{key}.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, *numbers)
