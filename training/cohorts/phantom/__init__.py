"""The phantom cohort: studies made here, whose best possible answer is known.

    state (findings and hidden confounders)  →  evidence per modality  →  image, note, values
                                                     └→  oracle: P(finding | evidence of every modality subset)

In: a number of studies and a seed. Out: a folder that `training.cohorts.manifest` reads, and beside it `truth/`, which
it never reads. Open `write.py` first, then `state.py`, `evidence.py` and `oracle.py`; the renderers (`radiograph.py`,
`note.py`, `values.py`) see evidence and nuisance, never the state. All numbers and words are in `tables/`.
"""
