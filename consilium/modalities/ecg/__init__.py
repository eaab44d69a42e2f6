"""ECGs: WFDB records, DICOM waveforms and CSV tables of up to twelve leads."""

from consilium.modalities.modality import CommandOption, FileInput, Limit, Modality

MODALITY = Modality(
    name="ecg",
    display="ECG",
    record="ECG",
    section="consilium.modalities.ecg.section:EcgSection",
    preparation="consilium.modalities.ecg.preparation:EcgPreparation",
    encoder="consilium.modalities.ecg.encoder:EcgEncoder",
    inputs=(
        FileInput(
            name="ecgs",
            read="consilium.modalities.ecg.records:read_ecg",
            pack="consilium.modalities.ecg.files.wfdb_header:pack",
            most=Limit("ecgs", 16, 4, "ECGs of one study."),
            most_bytes=Limit("ecg_bytes", 64 << 20, 32 << 20, "Bytes of one ECG file."),
            media_types=("application/dicom", "application/zip", "text/csv"),
            description="Zero or more ECGs: DICOM waveforms, zip archives of a WFDB record, or CSV with a rate.",
            option=CommandOption(
                name="--ecg", help="DICOM waveform, WFDB header (.hea) or zip archive of a record, or CSV; repeatable."
            ),
        ),
    ),
    limits=(Limit("ecg_samples", 8_000_000, 8_000_000, "Samples of one ECG: twelve leads, as its recording holds."),),
    warnings="consilium.modalities.ecg.ecg_record:ecg_warnings",
    explanation="consilium.modalities.ecg.explanation:EXPLANATION",
    presentation="consilium.modalities.ecg.presentation:PRESENTATION",
    column_reader="training.modalities.ecg.ecg_columns:EcgColumns",
    training="training.modalities.ecg.ecg_training:EcgTraining",
    typicality="consilium.modalities.ecg.typicality:TYPICALITY",
    refer_checks=("ecg_voltages", "ecg_leads", "ecg_quality"),
)
