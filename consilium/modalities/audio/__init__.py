"""Sounds of the body, such as heart sounds, lung sounds and coughs: WAV, FLAC and DICOM audio.

The modality is called audio, since an audit calls a cohort sound.
"""

from consilium.modalities.modality import CommandOption, FileInput, Limit, Modality

MODALITY = Modality(
    name="audio",
    display="Sound",
    record="sound",
    section="consilium.modalities.audio.section:AudioSection",
    preparation="consilium.modalities.audio.preparation:AudioPreparation",
    encoder="consilium.modalities.audio.encoder:AudioEncoder",
    inputs=(
        FileInput(
            name="sounds",
            read="consilium.modalities.audio.records:read_sound",
            most=Limit("sounds", 16, 4, "Sounds of one study."),
            most_bytes=Limit("sound_bytes", 128 << 20, 32 << 20, "Bytes of one sound file."),
            media_types=("audio/wav", "audio/flac", "application/dicom"),
            description="Zero or more sounds, such as heart sounds: WAV, FLAC or DICOM audio.",
            option=CommandOption(name="--sound", help="WAV, FLAC or DICOM audio; repeatable."),
        ),
    ),
    limits=(Limit("sound_samples", 40_000_000, 8_000_000, "Samples of one sound, of all its channels."),),
    warnings="consilium.modalities.audio.sound_record:sound_warnings",
    explanation="consilium.modalities.audio.explanation:EXPLANATION",
    presentation="consilium.modalities.audio.presentation:PRESENTATION",
    column_reader="training.modalities.audio.sound_columns:SoundColumns",
    training="training.modalities.audio.audio_training:AudioTraining",
    typicality="consilium.modalities.audio.typicality:TYPICALITY",
    refer_checks=("sound_quality", "sound_band"),
)
