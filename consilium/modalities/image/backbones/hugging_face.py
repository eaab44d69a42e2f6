"""Any Hugging Face vision model as a backbone: its own code runs whole; blocks, stages and attention are found in it.

They are found by one run on a black image: what ran, in which order, and which outputs are maps or patches in order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F

from consilium.domain.errors import InputError
from consilium.modalities.image.backbones.attention import AttentionLayer, GlobalAttention, WindowAttention
from consilium.modalities.image.backbones.backbone import Backbone, as_map
from consilium.modalities.image.backbones.description import Description
from consilium.modalities.image.backbones.hugging_face_attention import ATTENTION, recorded_attention
from consilium.modalities.image.backbones.hugging_face_files import FIELD, image_model_folder, vision_config
from consilium.modalities.image.section import ImageSection
from consilium.modalities.weights.model_folder import quiet_transformers

_POSITIONS = ("position_embeddings", "position_embedding.weight")


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """What was seen of one run.

    Attributes
    ----------
    order : dict of nn.Module to int
        The units that ran, by when they began.
    cells : dict of nn.Module to int
        Of those whose output is a square of cells: how many a side.
    attention : list of (nn.Module, tuple of int)
        The attention layers, and the shape of their weights.
    last : Tensor
        The model's output.
    """

    order: dict[nn.Module, int]
    cells: dict[nn.Module, int]
    attention: list[tuple[nn.Module, tuple[int, ...]]]
    last: Tensor


class HuggingFaceBackbone(Backbone):
    """A model of `transformers`.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode.
    description : Description
    size : int
        S, pixels.
    """

    def __init__(self, network: nn.Module, description: Description, size: int) -> None:
        units, repeated = _units(network)
        run = _black_run(network, description.input.channels, size, units)
        stages = _stages(run, repeated)
        cells = [run.cells[stage] for stage in stages]
        last = as_map(run.last)
        super().__init__(network, description.input, [*cells, last.shape[-1]], last.shape[1])
        for stage, tap in zip(stages, self.taps, strict=False):
            stage.register_forward_hook(_Through(tap))
        self._blocks = tuple(sorted(units, key=lambda unit: run.order.get(unit, -1)))
        self._attention = _attention_layers(run) if description.attention else []

    def run(self, pixels: Tensor) -> Tensor:
        last: Tensor = self.taps[-1](self.network(pixels).last_hidden_state)
        return last

    def blocks(self) -> list[nn.Module]:
        return [block for block in self._blocks if any(True for _ in block.parameters())]

    def attention_layers(self) -> list[AttentionLayer]:
        return list(self._attention)


class _Through:
    """Passes a module's output, or the first part of it, through a tap. A copy of the model has a copy of this."""

    def __init__(self, tap: nn.Module) -> None:
        self.tap = tap

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        del module, inputs
        return (self.tap(output[0]), *output[1:]) if isinstance(output, tuple) else self.tap(output)


def build_model(section: ImageSection, description: Description, *, pretrained: bool) -> HuggingFaceBackbone:
    """The model of `description`; with the weights of the section's folder or hub id where `pretrained`.

    Raises
    ------
    InputError
        Where it cannot read such images, gives no map, or its weights are not those of its configuration.
    """
    network = _from_config(description, section.encoder)
    missing = _read_weights(network, section) if pretrained else set()
    try:
        backbone = HuggingFaceBackbone(network.eval(), description, section.size)
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        cause = str(error).strip().partition("\n")[0][:120]
        rule = f"must give a map of an image of {section.size} pixels ({cause})"
        raise InputError(FIELD, section.encoder, rule) from None
    if pretrained:
        _keep_idle(backbone, section.size, missing, section.encoder)
    return backbone


def _from_config(description: Description, name: str) -> nn.Module:
    from transformers import AutoConfig, AutoModel
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    config = AutoConfig.for_model(**(description.config or {}))
    patch = getattr(config, "patch_size", 1)
    size = getattr(config, "image_size", None)
    if isinstance(patch, int) and isinstance(size, int) and size % patch:
        raise InputError("modalities.image.size", size, f"must be a multiple of {patch}, the patch of {name}")
    if hasattr(config, "vision_use_head"):
        config.vision_use_head = False
    listens = MODEL_MAPPING[type(config)]._supports_attention_backend
    options = {"attn_implementation": ATTENTION} if listens else {}
    try:
        # A pooler that nothing reads has no gradient, and distributed training stops at such parameters.
        network: nn.Module = AutoModel.from_config(config, add_pooling_layer=False, **options)
    except TypeError:  # this architecture has none
        network = AutoModel.from_config(config, **options)
    return network.float()


def _read_weights(network: nn.Module, section: ImageSection) -> set[str]:
    """Fill `network` from the model's own files; gives the names of what these lack."""
    from transformers import AutoModel

    folder = image_model_folder(section.encoder)
    try:
        with quiet_transformers():
            source, found = AutoModel.from_pretrained(
                folder,
                config=vision_config(folder, section.encoder),
                dtype=torch.float32,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        cause = str(error).strip().partition("\n")[0][:120]
        raise InputError(FIELD, section.encoder, f"must be a whole Hugging Face model ({cause})") from None
    theirs, ours = source.state_dict(), network.state_dict()
    given = {key: resized(key, theirs[key], ours[key]) for key in ours if key in theirs}
    wrong = sorted(key for key, tensor in given.items() if tensor.shape != ours[key].shape)
    if wrong:
        raise InputError(FIELD, section.encoder, f"must fit images of {section.size} pixels ({wrong[0]} does not)")
    network.load_state_dict(given, strict=False)
    return ({*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])} | {*ours} - {*theirs}) & {*ours}


def resized(key: str, theirs: Tensor, ours: Tensor) -> Tensor:
    """A table of positions [.., T, C] for another number of patches, bicubically; any other tensor as it is.

    Tokens before the patches keep their rows.
    """
    if theirs.shape == ours.shape or not key.endswith(_POSITIONS):
        return theirs
    old, new = math.isqrt(theirs.shape[-2]), math.isqrt(ours.shape[-2])
    before = theirs.shape[-2] - old**2
    if ours.shape[-2] != before + new**2 or theirs.shape[-1] != ours.shape[-1]:
        return theirs
    grid = theirs[..., before:, :].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    patches = grid.permute(0, 2, 3, 1).reshape(*theirs.shape[:-2], new**2, theirs.shape[-1])
    return torch.cat([theirs[..., :before, :], patches], dim=-2)


def _keep_idle(backbone: HuggingFaceBackbone, size: int, missing: set[str], name: str) -> None:
    """Let weights that the map does not depend on, such as a mask token, be constants, so that no training meets them.

    `InputError` where one of the `missing` is none of them.
    """
    network = backbone.network
    named = dict(network.named_parameters())
    with torch.enable_grad():
        pixels = torch.randn(1, backbone.pixels.channels, size, size, generator=torch.Generator().manual_seed(0))
        slopes = torch.autograd.grad(backbone.run(pixels).square().sum(), list(named.values()), allow_unused=True)
    idle = {key for key, slope in zip(named, slopes, strict=True) if slope is None}
    lacking = sorted(missing - idle)
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise InputError(FIELD, name, f"must have all of its weights; {lacking[0]}{more} is missing")
    for key in idle:
        place, _, last = key.rpartition(".")
        owner = network.get_submodule(place)
        del owner._parameters[last]
        owner.register_buffer(last, named[key].detach())


# --- what is found in a model ----------------------------------------------------------------------------------------


def _units(network: nn.Module) -> tuple[list[nn.Module], set[nn.Module]]:
    """The largest modules that hold no repeated one, and which of them are repeated themselves.

    Repeated is what stands in a `ModuleList`: the layers of an encoder. Together they hold every weight.
    """
    listed = {child for module in network.modules() if isinstance(module, nn.ModuleList) for child in module}
    units: list[nn.Module] = []

    def walk(module: nn.Module) -> None:
        below = {*module.modules()} - {module}
        if below.isdisjoint(listed):
            units.append(module)
            return
        own = list(module.parameters(recurse=False))
        if own:
            units.append(nn.ParameterList(own))
        for child in module.children():
            walk(child)

    walk(network)
    return units, listed & {*units}


@torch.no_grad()
def _black_run(network: nn.Module, channels: int, size: int, units: Sequence[nn.Module]) -> _Run:
    order: dict[nn.Module, int] = {}
    cells: dict[nn.Module, int] = {}

    def before(module: nn.Module, inputs: Any) -> None:
        del inputs
        order.setdefault(module, len(order))

    def after(module: nn.Module, inputs: Any, output: Any) -> None:
        del inputs
        side = _side(output[0] if isinstance(output, tuple) else output)
        if side is not None:
            cells[module] = side

    with ExitStack() as stack, recorded_attention() as attention:
        for unit in units:
            for hook in (unit.register_forward_pre_hook(before), unit.register_forward_hook(after)):
                stack.callback(hook.remove)
        last = network(torch.zeros(1, channels, size, size)).last_hidden_state
    if _side(last) is None:
        raise ValueError(f"its output has the shape {tuple(last.shape)}")
    return _Run(order, cells, list(attention), last)


def _side(output: Any) -> int | None:
    """Cells a side of a square map [1, C, h, h], or of patches [1, T, C] behind a few other tokens; None: neither."""
    if not isinstance(output, Tensor) or output.ndim not in (3, 4) or len(output) != 1:
        return None
    if output.ndim == 4:
        return output.shape[3] if output.shape[2] == output.shape[3] else None
    return math.isqrt(output.shape[1])


def _stages(run: _Run, repeated: set[nn.Module]) -> list[nn.Module]:
    """The units whose output is a map, in order, up to the last repeated one, whose map goes out at the end."""
    ran = sorted(run.order, key=run.order.__getitem__)
    layers = [unit for unit in ran if unit in repeated]
    end = ran.index(layers[-1]) if layers else len(ran)
    found = [unit for unit in ran[:end] if unit in run.cells]
    # Cells grow coarser on their way; what does not is no map of the image.
    return [unit for place, unit in enumerate(found) if all(run.cells[one] <= run.cells[unit] for one in found[place:])]


def _attention_layers(run: _Run) -> list[AttentionLayer]:
    found: list[AttentionLayer] = []
    for module, shape in run.attention:
        weights = module.get_submodule("weights_tap")
        layer = next((unit for unit in run.order if module in {*unit.modules()}), None)
        if layer is not None and hasattr(layer, "shift_size"):
            found.append(WindowAttention(weights, layer, run.cells[layer]))
        elif len(shape) == 4 and shape[0] == 1 and shape[2] == shape[3] == run.last.shape[1]:
            found.append(GlobalAttention(weights))
        else:
            raise ValueError(f"attention of the shape {shape} has no known places")
    return found
