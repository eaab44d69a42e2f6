"""The phantom cohort: studies made here, whose best possible answer is known.

    state (findings and hidden confounders)  →  evidence per modality  →  image, note, values
                                                     └→  oracle: P(finding | evidence of every modality subset)

In: a number of studies and a seed. Out: a folder that `training.cohorts.manifest` reads, and beside it `truth/`, which
it never reads. Open `write.py` first, then `state.py`, `evidence.py` and `oracle.py`; the renderers (`image/`,
`text/`, `observations/`) see evidence and nuisance, never the state. All numbers and words are in `tables/`.
"""

from training.cohorts.cohort_kind import CohortKind

KIND = CohortKind(
    name="phantom",
    read="training.cohorts.phantom.write:read_phantom",
    recognises=lambda root: (root / "studies.csv").is_file() and (root / "truth").is_dir(),
    oracle="training.cohorts.phantom.oracle:load_oracle",
    pairs="training.cohorts.phantom.pairs:load_pairs",
    truth="training.evaluation.faithfulness.phantom_truth:load_truth",
    renderer="training.evaluation.out_of_distribution.renderer:load_renderer",
)
"""Read as every manifest; what is known of it beside lies in ``truth/``."""
