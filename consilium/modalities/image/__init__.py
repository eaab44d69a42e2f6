"""Images: DICOM, PNG, JPEG and TIFF files, read into MONAI's or Hugging Face's backbones."""

from consilium.modalities.modality import CommandOption, FileInput, Limit, Modality

MODALITY = Modality(
    name="image",
    display="Image",
    record="image",
    section="consilium.modalities.image.section:ImageSection",
    augmentation="consilium.modalities.image.augmentation:ImageAugmentation",
    subject="The image",
    preparation="consilium.modalities.image.preparation:ImagePreparation",
    encoder="consilium.modalities.image.encoder:ImageEncoder",
    inputs=(
        FileInput(
            name="images",
            read="consilium.modalities.image.records:read_image",
            most=Limit("images", 64, 8, "Images of one study."),
            most_bytes=Limit("image_bytes", 128 << 20, 64 << 20, "Bytes of one image file."),
            media_types=("application/dicom", "image/png", "image/jpeg", "image/tiff"),
            description="Zero or more DICOM, PNG, JPEG or TIFF files. A URL or any other text value is refused.",
            option=CommandOption(name="--image", help="DICOM, PNG, JPEG or TIFF file; repeatable."),
            viewing="consilium.modalities.image.image_view:VIEWING",
        ),
    ),
    limits=(
        Limit(
            "image_pixels",
            64_000_000,
            64_000_000,
            "Rows times columns, as the file's headers declare them; looked at before anything is decoded.",
        ),
    ),
    warnings="consilium.modalities.image.image_record:image_warnings",
    explanation="consilium.modalities.image.explanation:EXPLANATION",
    presentation="consilium.modalities.image.presentation:PRESENTATION",
    column_reader="training.modalities.image.image_columns:ImageColumns",
    training="training.modalities.image.image_training:ImageTraining",
    typicality="consilium.modalities.image.typicality:TYPICALITY",
    refer_checks=("image_quality", "unknown_origin"),
    self_supervision={
        "masked_patches": "consilium.modalities.image.pretraining.masked_patches:MaskedPatches",
        "multi_view": "consilium.modalities.image.pretraining.multi_view:MultiView",
    },
)
