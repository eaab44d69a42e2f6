"""Clinical notes, read by Hugging Face text models."""

from consilium.modalities.modality import Modality

MODALITY = Modality(
    name="text",
    display="Notes",
    record="note",
    subject="The text of the notes",
    preparation="consilium.modalities.text.preparation:TextPreparation",
    encoder="consilium.modalities.text.encoder:TextEncoder",
    explanation="consilium.modalities.text.explanation:EXPLANATION",
    presentation="consilium.modalities.text.presentation:PRESENTATION",
    novelty="consilium.modalities.text.novelty:NOVELTY",
)
