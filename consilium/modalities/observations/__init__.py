"""Laboratory values, vital signs, age and sex."""

from consilium.modalities.modality import CommandOption, JsonInput, Limit, Modality

MODALITY = Modality(
    name="observations",
    display="Values",
    record="observation",
    subject="The set of observations",
    section="consilium.modalities.observations.section:ObservationsSection",
    preparation="consilium.modalities.observations.preparation:ObservationsPreparation",
    encoder="consilium.modalities.observations.encoder:ObservationsEncoder",
    inputs=(
        JsonInput(
            name="observations",
            schema="consilium.modalities.observations.records:ObservationRecord",
            read="consilium.modalities.observations.records:read_observations",
            most=Limit("observations", 2_000, 500, "Observations of one study."),
            example=(
                {"code": "1988-5", "value": 112.0, "unit": "mg/L", "time": "2024-03-05T08:20:00"},
                {"code": "8867-4", "value": 104, "unit": "/min", "time": "2024-03-05T08:05:00"},
            ),
            option=CommandOption(
                name="--observations",
                metavar="PATH",
                help="CSV with the columns code, value, unit, time, or JSON with a list of these.",
                repeatable=False,
                read="consilium.modalities.observations.observation_files:observations_from_files",
            ),
            viewing="consilium.modalities.observations.observation_view:VIEWING",
        ),
    ),
    explanation="consilium.modalities.observations.explanation:EXPLANATION",
    presentation="consilium.modalities.observations.presentation:PRESENTATION",
    column_reader="training.modalities.observations.value_columns:ValueColumns",
    training="training.modalities.observations.observations_training:ObservationsTraining",
    typicality="consilium.modalities.observations.typicality:TYPICALITY",
    self_supervision={"masked_values": "consilium.modalities.observations.masked_values:MaskedValues"},
)
