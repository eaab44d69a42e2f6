"""Where in an image the evidence lies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from consilium.diagnosis import ImageSaliency
from consilium.letterbox import Letterbox

METHOD = "gradient_x_activation"


def image_saliency(
    activations: npt.NDArray[np.float32], gradients: npt.NDArray[np.float32], letterboxes: Sequence[Letterbox]
) -> tuple[ImageSaliency, ...]:
    """Gradient × activation, summed over channels, in the pixels of each original image.

    For a ViT the map lies before its last block, so that the gradient has passed through the attention that gathers it.

    Parameters
    ----------
    activations, gradients : float32 [V, C, h, w]
        Feature map of each image of the study, and the gradient of the finding's log-odds with respect to it.
    letterboxes : sequence of Letterbox
        Geometry of each image, V of them.
    """
    cells = (activations * gradients).sum(axis=1)
    return tuple(
        ImageSaliency(number, box.backward(cells[number]), (int(cells.shape[1]), int(cells.shape[2])))
        for number, box in enumerate(letterboxes)
    )
