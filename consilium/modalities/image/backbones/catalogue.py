"""The encoders of images that have a name: how each is built, and what weights it can begin from. No torch here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from consilium.modalities.image.backbones.description import IMAGENET, RADIOGRAPH, ImageInput

if TYPE_CHECKING:
    from consilium.modalities.image.section import ImageSection

_MONAI = "consilium.modalities.image.backbones.monai_backbones"
_NOTHING: Mapping[str, Any] = MappingProxyType({})

Renaming = tuple[tuple[str, str], ...]
"""Regular expressions and what replaces a match, applied in turn to each key of a state dict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """An encoder that has a name.

    Attributes
    ----------
    build : str
        Reference of ``build(section, input, **arguments) -> Backbone``.
    arguments : mapping
    input : ImageInput
        Unless its weights say otherwise.
    shape : mapping of str to int
        The keys of the section that decide on its shape, and what they are unless given.
    multiple : int
        What the side of its images is a multiple of.
    downloads : str
        Reference of ``download(**arguments) -> dict of tensors`` by the network's own keys, which fetches the weights
        that MONAI names; empty: MONAI names none.
    downloaded : ImageInput
        What these weights take.
    renaming : tuple
        Makes the keys of published state dicts the network's own.
    unread : str
        Regular expression of the keys of such files, once renamed, that the encoder has no use for.
    """

    name: str
    build: str
    arguments: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    input: ImageInput = RADIOGRAPH
    shape: Mapping[str, int] = field(default_factory=lambda: _NOTHING)
    multiple: int = 32
    downloads: str = ""
    downloaded: ImageInput = IMAGENET
    renaming: Renaming = ()
    unread: str = r"(?!)"

    def renamed(self, key: str) -> str:
        """The network's own name of `key`."""
        for pattern, replacement in self.renaming:
            key = re.sub(pattern, replacement, key)
        return key

    def shape_of(self, section: ImageSection, key: str) -> int:
        """What `section` says of `key`, one of `shape`."""
        given = getattr(section, key)
        return self.shape[key] if given is None else int(given)


# torchvision calls the layers of a dense block norm1, conv1; its first files called them norm.1, conv.1.
_DENSE_LAYERS = (r"(denselayer\d+)\.(norm|relu|conv)\.?([12])\.", r"\1.layers.\2\3.")
_HEADS = r"(classifier|fc|class_layers|last_linear)\..*"
_RESNET_HEADS = r"(?:.*\.)?(fc|projector|downstream_classifier|classifier)\..*"
_EARLIER_IMAGE = r"(backbone_to_vit|vit_pooler)\..*|missing_previous_emb"
"""By which BioViL-T compares an image with an earlier one."""

_RESNETS: Mapping[str, tuple[str, tuple[int, ...]]] = MappingProxyType(
    {
        "resnet10": ("basic", (1, 1, 1, 1)),
        "resnet18": ("basic", (2, 2, 2, 2)),
        "resnet34": ("basic", (3, 4, 6, 3)),
        "resnet50": ("bottleneck", (3, 4, 6, 3)),
        "resnet101": ("bottleneck", (3, 4, 23, 3)),
        "resnet152": ("bottleneck", (3, 8, 36, 3)),
        "resnet200": ("bottleneck", (3, 24, 36, 3)),
    }
)
_DENSENETS: Mapping[str, str] = MappingProxyType(
    {f"densenet{depth}": f"DenseNet{depth}" for depth in (121, 169, 201, 264)}
)
_SENETS: Mapping[str, str] = MappingProxyType(
    {
        "seresnet50": "SEResNet50",
        "seresnet101": "SEResNet101",
        "seresnet152": "SEResNet152",
        "seresnext50": "SEResNext50",
        "seresnext101": "SEResNext101",
        "senet154": "SENet154",
    }
)
_EFFICIENTNET_SIZES = (224, 240, 260, 300, 380, 456, 528, 600)


def _resnets() -> Iterator[Architecture]:
    for name, (block, layers) in _RESNETS.items():
        arguments = {"block": block, "layers": layers}
        yield Architecture(name=name, build=f"{_MONAI}:resnet", arguments=arguments, shape={"width": 64})


def _densenets() -> Iterator[Architecture]:
    for name, kind in _DENSENETS.items():
        yield Architecture(
            name=name,
            build=f"{_MONAI}:densenet",
            arguments={"kind": kind},
            shape={"width": 64},
            renaming=((r"^features\.", ""), _DENSE_LAYERS),
            unread=_HEADS,
            downloads="" if name == "densenet264" else f"{_MONAI}:download_densenet",
        )


def _senets() -> Iterator[Architecture]:
    for name, kind in _SENETS.items():
        yield Architecture(
            name=name, build=f"{_MONAI}:senet", arguments={"kind": kind}, downloads=f"{_MONAI}:download_senet"
        )


def _efficientnets() -> Iterator[Architecture]:
    for number, size in enumerate(_EFFICIENTNET_SIZES):
        name = f"efficientnet-b{number}"
        yield Architecture(
            name=name,
            build=f"{_MONAI}:efficientnet",
            arguments={"kind": name},
            downloads=f"{_MONAI}:download_efficientnet",
            downloaded=replace(IMAGENET, size=size),
        )


def _vit() -> Iterator[Architecture]:
    yield Architecture(name="vit", build=f"{_MONAI}:vit", shape={"width": 64, "patch": 16, "depth": 6}, multiple=1)


def _published() -> Iterator[Architecture]:
    """Those that exist for the sake of weights that somebody published, and take what these were trained on.

    Notes
    -----
    Pixels are as the publishers' own code prepares them:

    - TorchXRayVision: grey levels over the whole range of the file to -1024..1024 (``datasets.normalize``).
    - BioViL, BioViL-T (microsoft/hi-ml, ``health_multimodal/image/data`` and ``image/utils.py``): grey levels over the
      whole range to 0..1, one channel three times, no mean or deviation; shorter side 512, then the middle 480 pixels
      (BioViL) or 448 (BioViL-T).
    - RadImageNet's PyTorch files (BMEII-AI/RadImageNet, ``pytorch_example.ipynb``): 0..255 to -1..1, 224 pixels, aspect
      not kept. Its TensorFlow code scales otherwise (the repository's issue 18), which its authors have not explained.

    Consilium scales grey levels by percentiles and keeps the aspect, whatever the encoder.
    """
    yield Architecture(
        name="efficientnet-lite0",
        build="consilium.modalities.image.backbones.efficientnet_lite:efficientnet_lite0",
        input=replace(IMAGENET, resizing="centre crop"),
        unread=r"(_conv_head|_bn1|_fc)\..*",
    )
    yield Architecture(
        name="torchxrayvision-densenet121",
        build=f"{_MONAI}:densenet",
        arguments={"kind": "DenseNet121"},
        input=ImageInput(mean=(0.0,), sd=(1.0,), low=-1024, high=1024, size=224, resizing="centre crop, 224 × 224"),
        renaming=((r"^(model|module)\.", ""), (r"^features\.", ""), _DENSE_LAYERS),
        unread=rf"{_HEADS}|op_threshs",
    )
    yield Architecture(
        name="biovil-resnet50",
        build=f"{_MONAI}:resnet",
        arguments={"block": "bottleneck", "layers": _RESNETS["resnet50"][1], "bias": False},
        input=ImageInput(
            channels=3, mean=(0.0,) * 3, sd=(1.0,) * 3, size=480, resizing="shorter side 512, centre crop 480"
        ),
        renaming=((r"^(encoder\.)+", ""),),
        unread=rf"{_RESNET_HEADS}|{_EARLIER_IMAGE}",
    )
    scaled = ImageInput(channels=3, mean=(0.5,) * 3, sd=(0.5,) * 3, size=224, resizing="224 × 224")
    places = {"0": "conv1", "1": "bn1", **{str(place): f"layer{place - 3}" for place in range(4, 8)}}
    yield Architecture(
        name="radimagenet-resnet50",
        build=f"{_MONAI}:resnet",
        arguments={"block": "bottleneck", "layers": _RESNETS["resnet50"][1], "bias": False},
        input=scaled,
        renaming=tuple((rf"^backbone\.{place}\.", f"{name}.") for place, name in places.items()),
        unread=_RESNET_HEADS,
    )
    yield Architecture(
        name="radimagenet-densenet121",
        build=f"{_MONAI}:densenet",
        arguments={"kind": "DenseNet121"},
        input=scaled,
        renaming=((r"^backbone\.0\.", ""), (r"^features\.", ""), _DENSE_LAYERS),
        unread=_HEADS,
    )


_KINDS: tuple[Callable[[], Iterator[Architecture]], ...] = (
    _resnets,
    _densenets,
    _senets,
    _efficientnets,
    _vit,
    _published,
)

ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType({one.name: one for kind in _KINDS for one in kind()})
"""By name."""


def is_hugging_face(encoder: str) -> bool:
    """Whether `encoder` is a hub id or folder of a Hugging Face model and no name."""
    return "/" in encoder or "\\" in encoder or encoder.startswith((".", "~"))
