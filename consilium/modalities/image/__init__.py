"""Images: DICOM, PNG, JPEG and TIFF files, read into MONAI's or Hugging Face's backbones."""

from consilium.modalities.modality import Modality

MODALITY = Modality(
    name="image",
    display="Image",
    record="image",
    subject="The image",
    preparation="consilium.modalities.image.preparation:ImagePreparation",
    encoder="consilium.modalities.image.encoder:ImageEncoder",
    explanation="consilium.modalities.image.explanation:EXPLANATION",
    presentation="consilium.modalities.image.presentation:PRESENTATION",
    novelty="consilium.modalities.image.novelty:NOVELTY",
    refer_checks=("image_quality", "unknown_origin"),
)
