"""Adaptation: which weights of an encoder's body are trained, from which epoch on, and how fast.

What is not trained stays as it was, batch statistics and all: its modules remain in evaluation mode while the rest of
the model is in training mode. Low-rank changes (LoRA, Hu et al. 2022) are added to the weights when the training ends,
so that whoever loads the model needs no package for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from consilium.domain.errors import InputError
from consilium.modalities.encoder_section import AdaptationSection

_FAMILIES = (
    ("query", "value"),  # BERT, RoBERTa, ELECTRA, ViT, DINOv2, Swin
    ("q_proj", "v_proj"),  # CLIP, SigLIP, DINOv3
    ("query_proj", "value_proj"),  # DeBERTa
    ("q_lin", "v_lin"),  # DistilBERT
    ("q", "v"),  # T5, MPNet
    ("Wqkv",),  # ModernBERT
    ("qkv",),  # MONAI's ViT
    ("pwconv1", "pwconv2"),  # ConvNeXt
)
"""Names of the layers that get low-rank changes, the first family that the body has a layer of."""


class Adaptation:
    """What a recipe's section `adaptation` makes of one encoder's body.

    Parameters
    ----------
    section : AdaptationSection
    body : Module
        Changed at once: what is never trained asks for no gradient, and low-rank changes are put into its layers.
    blocks : sequence of Module
        Of `body`, from input to output. Weights of none of them go with the first block where they stand before it, and
        with the last one otherwise.
    learning_rate : float or None
        Of the body; None: that of the training.
    pretrained : bool
        False where the weights come from an artifact: the low-rank changes are in them.

    Raises
    ------
    InputError
        Where `body` has less blocks than are to be trained, or no layer of the names that are to be changed.
    """

    def __init__(
        self,
        section: AdaptationSection,
        body: nn.Module,
        blocks: Sequence[nn.Module],
        *,
        learning_rate: float | None = None,
        pretrained: bool = True,
    ) -> None:
        self._section = section
        self._body = body
        self._learning_rate = learning_rate
        self._depths = _depths(body, blocks)
        self._blocks = len(blocks)
        self._trained = self._chosen(blocks)
        if section.name == "lora" and pretrained:
            self._trained = [*_with_low_rank_changes(section, body)]
        body.requires_grad_(requires_grad=False)
        for parameter in self._trained:
            parameter.requires_grad_()

    @property
    def frozen(self) -> bool:
        """Whether nothing of the body is ever trained."""
        return self._section.name == "frozen"

    def begin_epoch(self, epoch: int) -> None:
        """Let those weights be trained that are in the epoch number `epoch`, from 0 on."""
        first = self._first_block(epoch)
        for parameter in self._trained:
            parameter.requires_grad_(self._depths.get(parameter, self._blocks - 1) >= first)

    def hold(self) -> None:
        """Put into evaluation mode what is not trained now."""
        changed = self._section.name == "lora" and any(parameter.requires_grad for parameter in self._trained)
        if not changed:
            _hold(self._body)
        if changed or self._section.batch_statistics == "kept":
            for module in self._body.modules():
                if isinstance(module, _NormBase):
                    module.eval()

    def rate_of(self, parameter: nn.Parameter, rate: float) -> float:
        """The learning rate of a `parameter` of the body, where that of the training is `rate`."""
        after = self._blocks - 1 - self._depths.get(parameter, self._blocks - 1)
        return (self._learning_rate or rate) * self._section.layer_decay**after

    def merge(self) -> None:
        """Add low-rank changes to the weights that they change, and take them away."""
        if self._section.name == "lora" and self._trained:
            _merge(self._body)
            self._trained = []

    def _chosen(self, blocks: Sequence[nn.Module]) -> list[nn.Parameter]:
        """The weights that are trained at some time, but for low-rank changes."""
        name, last = self._section.name, self._section.blocks
        if name in ("frozen", "lora"):
            return []
        if name == "last" and last > len(blocks):
            raise InputError("adaptation.blocks", last, f"must be at most the {len(blocks)} blocks of the encoder")
        first = 0 if name == "all" else len(blocks) - last
        return [parameter for parameter, depth in self._depths.items() if depth >= first]

    def _first_block(self, epoch: int) -> int:
        """From which block on weights are trained in an epoch; more than there are before the first one is."""
        since, every = epoch - self._section.head_epochs, self._section.block_epochs
        if since < 0:
            return self._blocks
        return 0 if every == 0 else max(0, self._blocks - 1 - since // every)


def _depths(body: nn.Module, blocks: Sequence[nn.Module]) -> dict[nn.Parameter, int]:
    """Every weight of `body` that asks for a gradient, in order, and the position of its block."""
    own = {parameter: position for position, block in enumerate(blocks) for parameter in block.parameters()}
    found: dict[nn.Parameter, int] = {}
    reached = False
    for parameter in body.parameters():
        reached = reached or parameter in own
        if parameter.requires_grad:  # some networks have embeddings of positions that are fixed
            found[parameter] = own.get(parameter, len(blocks) - 1 if reached else 0)
    return found


def _hold(module: nn.Module) -> None:
    """Evaluation mode for each part of `module` that has weights, none of which is trained."""
    weights = list(module.parameters())
    if weights and not any(parameter.requires_grad for parameter in weights):
        module.eval()
        return
    for child in module.children():
        _hold(child)


# --- low-rank changes ------------------------------------------------------------------------------------------------


def _with_low_rank_changes(section: AdaptationSection, body: nn.Module) -> Iterator[nn.Parameter]:
    """Put low-rank changes, of no effect yet, into layers of `body`; their weights."""
    from peft import LoraConfig, inject_adapter_in_model

    before = set(body.parameters())
    targets = _targets(section, body)
    with torch.random.fork_rng(devices=[]):  # the weights of what is made afterwards stay those of any other recipe
        inject_adapter_in_model(LoraConfig(r=section.rank, lora_alpha=section.alpha, target_modules=targets), body)
    return (parameter for parameter in body.parameters() if parameter not in before)


def _targets(section: AdaptationSection, body: nn.Module) -> list[str]:
    """The full names of the layers to be changed."""
    layers = {name: module for name, module in body.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    leaves = {name: name.rpartition(".")[2] for name in layers}
    if section.targets:
        missing = sorted(set(section.targets) - set(leaves.values()))
        if missing:
            rule = f"must be among the encoder's layers: {', '.join(sorted(set(leaves.values())))}"
            raise InputError("adaptation.targets", missing[0], rule)
        return [name for name, leaf in leaves.items() if leaf in section.targets]
    for family in _FAMILIES:
        found = [name for name, leaf in leaves.items() if leaf in family and isinstance(layers[name], nn.Linear)]
        if found:
            return found
    # A convolution with groups, such as a depthwise one, has hardly more weights than a low-rank change of it.
    whole = [name for name, layer in layers.items() if isinstance(layer, nn.Conv2d) and layer.groups == 1]
    return whole or list(layers)


def _merge(body: nn.Module) -> None:
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(body.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True)
            above, _, own = name.rpartition(".")
            setattr(body.get_submodule(above), own, module.get_base_layer())


# --- what was trained ------------------------------------------------------------------------------------------------


def parameter_counts(parts: Mapping[str, nn.Module]) -> dict[str, dict[str, int]]:
    """How many weights of each of `parts` are trained, and of how many in all that stay when the training has ended."""
    return {name: _counts(part) for name, part in parts.items()}


def _counts(part: nn.Module) -> dict[str, int]:
    every: dict[str, Tensor] = dict(part.named_parameters())
    stay = [one for name, one in every.items() if ".lora_" not in name]
    return {
        "trained": sum(one.numel() for one in every.values() if one.requires_grad),
        "all": sum(one.numel() for one in stay),
    }
