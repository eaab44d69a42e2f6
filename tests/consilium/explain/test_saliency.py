import numpy as np

from consilium.explain.saliency import image_saliency
from consilium.letterbox import Letterbox


def test_saliency_is_signed_and_lands_in_the_original_pixels() -> None:
    activations = np.ones((1, 2, 16, 16), np.float32)
    gradients = np.zeros((1, 2, 16, 16), np.float32)
    gradients[0, 0, 4, 4] = 2  # for
    gradients[0, 1, 12, 12] = -3  # against
    (saliency,) = image_saliency(activations, gradients, [Letterbox(320, 320, 128)])
    assert saliency.values.shape == (320, 320)
    assert saliency.cells == (16, 16)
    assert np.unravel_index(saliency.values.argmax(), (320, 320))[0] // 20 == 4
    assert np.unravel_index(saliency.values.argmin(), (320, 320))[1] // 20 == 12
    assert saliency.values.max() > 1
    assert saliency.values.min() < -1.5
