"""How images are explained: saliency maps (`saliency_maps`), and those of attention (`attention_maps`)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from consilium.explain.case import Case, Floats
from consilium.explain.methods import FAST, THOROUGH, Method, ModalityExplanation
from consilium.modalities.image import attention_maps as attention
from consilium.modalities.image import saliency_maps as maps
from consilium.modalities.image.letterbox import IMAGES, Letterbox
from consilium.modalities.image.presentation import ImageSaliency
from consilium.network.diagnosis_model import DiagnosisModel
from consilium.preprocessing.batch import Prepared
from consilium.preprocessing.collate import Preprocessing


def log_odds_of_pixels(case: Case, kept: npt.NDArray[np.bool_]) -> Floats:
    """Log-odds [N, F] of copies whose pixels, where not `kept` (bool [N, V·S·S]), are the average image's."""
    own = case.batch.inputs[maps.IMAGE][IMAGES]
    mask = torch.from_numpy(kept).to(own.device).reshape(len(kept), *own.shape[1:])
    return maps.log_odds_of_images(case, torch.where(mask, own, maps.reference_images(case)))


def weights_of_pixels(case: Case, cells: npt.NDArray) -> npt.NDArray[np.float32]:
    """Maps [V, h, w] over the model's squares in their pixels, [V, S, S]."""
    side = case.batch.inputs[maps.IMAGE][IMAGES].shape[-1]
    whole = Letterbox(side, side, side)
    return np.stack([whole.backward(one) for one in cells])


def _fine(model: DiagnosisModel) -> list[nn.Module]:
    return [maps.fine_stage(model)]


def _last(model: DiagnosisModel) -> list[nn.Module]:
    return [maps.last_stage(model)]


def _attention_and_last(model: DiagnosisModel) -> list[nn.Module]:
    return [*attention.attention_layers(model), maps.last_stage(model)]


def _attention(preprocessing: Preprocessing) -> str:
    readable = preprocessing.preparations[maps.IMAGE].description.attention
    return "" if readable else "reads attention, which the image encoder has not, or not in a form that can be read"


def _units(prepared: Prepared, preprocessing: Preprocessing) -> range:
    del preprocessing
    return range(len(prepared.parts[maps.IMAGE].letterboxes))


def _attributions(case: Case, cells: npt.NDArray) -> tuple[ImageSaliency, ...]:
    return maps.image_saliency(cells, case.prepared.parts[maps.IMAGE].letterboxes)


EXPLANATION = ModalityExplanation(
    methods=(
        Method("gradient_x_activation", maps.gradient_x_activation, fast=True, watches=_fine),
        Method("grad_cam", maps.grad_cam, fast=True, watches=_last),
        Method("layer_cam", maps.layer_cam, fast=True, watches=_fine),
        Method("integrated_gradients", maps.integrated_gradients),
        Method("occlusion", maps.occlusion),
        Method(
            "attention_rollout",
            attention.attention_rollout,
            fast=True,
            watches=attention.attention_layers,
            lacks=_attention,
        ),
        Method(
            "gradient_attention", attention.gradient_attention, fast=True, watches=_attention_and_last, lacks=_attention
        ),
    ),
    defaults={FAST: "gradient_x_activation", THOROUGH: "integrated_gradients"},
    units=_units,
    attributions=_attributions,
    log_odds_keeping=log_odds_of_pixels,
    places=weights_of_pixels,
)
