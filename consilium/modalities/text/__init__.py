"""Clinical notes, read by Hugging Face text models."""

from consilium.modalities.modality import Modality

MODALITY = Modality(
    name="text",
    display="Notes",
    record="note",
    explanation="consilium.modalities.text.explanation:EXPLANATION",
    presentation="consilium.modalities.text.presentation:PRESENTATION",
)
