"""Volumes: CT and MR as DICOM series, enhanced DICOM objects and NIfTI files."""

from consilium.modalities.modality import CommandOption, FileInput, Limit, Modality

MODALITY = Modality(
    name="volume",
    display="Volume",
    record="volume",
    section="consilium.modalities.volume.section:VolumeSection",
    preparation="consilium.modalities.volume.preparation:VolumePreparation",
    encoder="consilium.modalities.volume.encoder:VolumeEncoder",
    inputs=(
        FileInput(
            name="volumes",
            read="consilium.modalities.volume.records:read_volume",
            pack="consilium.modalities.volume.files.archive:pack",
            most=Limit("volumes", 8, 2, "Volumes of one study."),
            most_bytes=Limit("volume_bytes", 2 << 30, 1 << 30, "Bytes of one volume's file."),
            media_types=("application/zip", "application/dicom", "application/gzip", "application/octet-stream"),
            description="Zero or more volumes: zip archives of a DICOM series, enhanced DICOM objects, or NIfTI files.",
            option=CommandOption(
                name="--volume", help="Folder or zip archive of a DICOM series, enhanced DICOM, or NIfTI; repeatable."
            ),
        ),
    ),
    limits=(
        Limit(
            "volume_voxels",
            512_000_000,
            300_000_000,
            "Voxels of one volume, as its headers declare them; an archive holds at most four times as many bytes.",
        ),
    ),
    warnings="consilium.modalities.volume.volume_record:volume_warnings",
    explanation="consilium.modalities.volume.explanation:EXPLANATION",
    presentation="consilium.modalities.volume.presentation:PRESENTATION",
    column_reader="training.modalities.volume.volume_columns:VolumeColumns",
    training="training.modalities.volume.volume_training:VolumeTraining",
    typicality="consilium.modalities.volume.typicality:TYPICALITY",
    refer_checks=("volume_slices", "volume_units", "volume_blank"),
)
