"""Five modalities from one factory, as a third party installs them: waves of any length, in files that are cached."""

from consilium.modalities.modality import FileInput, JsonInput, Limit, Modality

LETTERS = "abcde"


def declared(letter: str) -> Modality:
    """The modality ``wave_<letter>``."""
    return Modality(
        name=f"wave_{letter}",
        display=f"Wave {letter.upper()}",
        record=f"wave {letter}",
        inputs=(
            JsonInput(
                name=f"waves_{letter}",
                schema="waves.records:WaveRecord",
                read=f"waves.records:read_waves_{letter}",
                most=Limit(f"waves_{letter}", 8, 4),
            ),
            FileInput(
                name=f"wave_{letter}_files",
                read=f"waves.records:read_wave_file_{letter}",
                most=Limit(f"wave_{letter}_files", 8, 4),
                most_bytes=Limit(f"wave_{letter}_bytes", 1 << 20, 1 << 20),
            ),
        ),
        columns=(f"wave_{letter}",),
        read_row=f"waves.records:read_row_{letter}",
        section="waves.section:WaveSection",
        preparation=f"waves.preparation:Preparation_{letter}",
        encoder="waves.encoder:WaveEncoder",
        explanation=f"waves.explanation:EXPLANATION_{letter}",
        presentation=f"waves.presentation:PRESENTATION_{letter}",
    )


WAVE_A, WAVE_B, WAVE_C, WAVE_D, WAVE_E = map(declared, LETTERS)
