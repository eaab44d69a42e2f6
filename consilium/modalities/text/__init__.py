"""Clinical notes, read by Hugging Face text models."""

from consilium.modalities.modality import CommandOption, JsonInput, Limit, Modality

MODALITY = Modality(
    name="text",
    display="Notes",
    record="note",
    section="consilium.modalities.text.section:TextSection",
    augmentation="consilium.modalities.text.augmentation:WordDropout",
    subject="The text of the notes",
    preparation="consilium.modalities.text.preparation:TextPreparation",
    encoder="consilium.modalities.text.encoder:TextEncoder",
    inputs=(
        JsonInput(
            name="notes",
            schema="consilium.modalities.text.records:NoteRecord",
            read="consilium.modalities.text.records:read_notes",
            most=Limit("notes", 64, 32, "Notes of one study."),
            example=(
                {
                    "kind": "indication",
                    "text": "Fever and productive cough for three days. Crackles right base.",
                    "time": "2024-03-05T08:10:00",
                },
            ),
            option=CommandOption(
                name="--note",
                metavar="KIND=TEXT",
                help="A note, or KIND=@FILE; KIND is history, indication, ...; repeatable.",
                read="consilium.modalities.text.note_options:notes_from_options",
            ),
            viewing="consilium.modalities.text.presentation:VIEWING",
        ),
    ),
    limits=(Limit("note_characters", 20_000, 20_000, "Characters of one note."),),
    explanation="consilium.modalities.text.explanation:EXPLANATION",
    presentation="consilium.modalities.text.presentation:PRESENTATION",
    column_reader="training.modalities.text.note_columns:NoteColumns",
    training="training.modalities.text.text_training:TextTraining",
    typicality="consilium.modalities.text.typicality:TYPICALITY",
    self_supervision={"masked_words": "consilium.modalities.text.pretraining.masked_words:MaskedWords"},
    sentences="consilium.modalities.text.pretraining.note_sentences:SENTENCES",
)
