"""What Consilium uses of MONAI, and the only place that imports it: here it is made to load lazily."""

from consilium.system.lazy_packages import import_lazily

import_lazily(
    "monai",
    walker="monai.utils.module",
    needed=("monai.config", "monai.config.type_definitions", "monai.utils.misc", "monai.utils.tf32"),
    along={"monai.transforms": "monai.data"},
)

from monai.networks import nets  # noqa: E402
from monai.networks.blocks import TransformerBlock  # noqa: E402
from monai.networks.layers import AffineTransform  # noqa: E402
from monai.networks.nets import DenseNet121, ResNet, ViT  # noqa: E402

__all__ = ["AffineTransform", "DenseNet121", "ResNet", "TransformerBlock", "ViT", "nets"]
