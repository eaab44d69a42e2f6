"""Pulse waves: a modality as a third party adds one, in a distribution of its own, with nothing changed elsewhere."""

from consilium.modalities.modality import CommandOption, FileInput, JsonInput, Limit, Modality

MODALITY = Modality(
    name="pulse",
    display="Pulse wave",
    record="pulse wave",
    inputs=(
        JsonInput(
            name="pulses",
            schema="pulse.records:PulseRecord",
            read="pulse.records:read_pulses",
            most=Limit("pulses", 8, 4, "Pulse waves of one study in the request's JSON."),
            description="Pulse waves as numbers.",
        ),
        FileInput(
            name="pulse_files",
            read="pulse.records:read_pulse_file",
            most=Limit("pulse_files", 8, 4, "Files of pulse waves of one study."),
            most_bytes=Limit("pulse_bytes", 1 << 20, 1 << 20, "Bytes of one file of a pulse wave."),
            media_types=("text/csv",),
            description="Pulse waves as text: one number a line.",
            option=CommandOption(name="--pulse", help="Text file of a pulse wave, one number a line; repeatable."),
        ),
    ),
    columns=("pulse_file",),
    read_row="pulse.records:read_row",
    limits=(Limit("pulse_samples", 10_000, 10_000, "Samples of one pulse wave."),),
    section="pulse.section:PulseSection",
    preparation="pulse.preparation:PulsePreparation",
    encoder="pulse.encoder:PulseEncoder",
    explanation="pulse.explanation:EXPLANATION",
    presentation="pulse.presentation:PRESENTATION",
)
