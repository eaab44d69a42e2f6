"""What Consilium uses of MONAI, and the only place that imports it: here it is made to load lazily.

MONAI has no supported way to load a part of itself: whatever is imported below it, ``monai/__init__`` first walks over
all of its modules, without a switch (MONAI 1.6.1: 432 modules, 9.6 s of CPU time after torch, against 0.3 s from here).
`consilium.system.lazy_packages` answers with the import system's own protocols, a finder on ``sys.meta_path`` for this
one package and module-level ``__getattr__``; no module is replaced, and all of MONAI can still be imported.
"""

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
