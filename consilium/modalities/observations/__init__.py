"""Laboratory values, vital signs, age and sex."""

from consilium.modalities.modality import Modality

MODALITY = Modality(
    name="observations",
    display="Values",
    record="observation",
    subject="The set of observations",
    preparation="consilium.modalities.observations.preparation:ObservationsPreparation",
    encoder="consilium.modalities.observations.encoder:ObservationsEncoder",
    explanation="consilium.modalities.observations.explanation:EXPLANATION",
    presentation="consilium.modalities.observations.presentation:PRESENTATION",
    novelty="consilium.modalities.observations.novelty:NOVELTY",
)
