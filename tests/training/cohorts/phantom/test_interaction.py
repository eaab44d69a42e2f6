"""The scheme whose evidence means nothing before another modality is read."""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from consilium.domain.errors import InputError
from consilium.domain.study import Sex
from consilium.masking import mask_text
from consilium.modalities.registry import nonempty_subsets, subset_key
from tests.training.cohorts.phantom.sampling import likelihoods_of, sample
from training.cohorts import load_cohort, recognise_kind
from training.cohorts.phantom.image.masks import load_masks
from training.cohorts.phantom.interaction import InteractionImage, InteractionText
from training.cohorts.phantom.oracle import load_oracle, posterior
from training.cohorts.phantom.record import Design, Drawn, Shift, draw_study, render_study
from training.cohorts.phantom.renderers import DEFAULT_MODALITIES
from training.cohorts.phantom.schemes import find_scheme
from training.cohorts.phantom.state import FINDINGS, State
from training.cohorts.phantom.tables import table
from training.cohorts.phantom.text.note import render_note
from training.cohorts.phantom.write import write_phantom
from training.experiments.fusion_comparison.rules import product_of_experts

Floats = npt.NDArray[np.float64]
DESIGN = Design(seed=0, size=64, scheme="interaction")
STATES = DESIGN.states()
SEED, STUDIES = 9, 60
EVERYTHING = subset_key(DEFAULT_MODALITIES)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("interaction") / "cohort"
    write_phantom(root, STUDIES, SEED, size=64, workers=1, scheme="interaction")
    return root


@pytest.fixture(scope="module")
def large() -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], dict[str, Floats]]:
    """States [N, 8], which modalities each study has [N, 3], and the best answers by subset."""
    state, readings = sample(25000, 12, DESIGN)
    likelihoods = likelihoods_of(readings, design=DESIGN)
    subsets = nonempty_subsets(DEFAULT_MODALITIES)
    best = {subset_key(s): posterior(STATES.prior, likelihoods, DEFAULT_MODALITIES, s) for s in subsets}
    has = np.random.default_rng(13).random((len(state), 3)) >= np.array([0.06, 0.10, 0.10])
    return STATES.present[state], has, best


def _by_hand(image: Floats, grades: Floats, written: Floats, measured: Floats, chosen: set[str]) -> Floats:
    """P(finding | evidence), state by state, in plain numbers and from the formulas of the module's docstring."""
    total, found = 0.0, np.zeros(4)
    rates = {True: 0.09, False: 0.13}
    for number, present in enumerate(itertools.product([0, 1], repeat=8)):
        pneumonia, failure, effusion, pneumothorax, renal, thick, device, left = reversed(present)
        weight = float(STATES.prior[number])
        shown = [
            3 * max(pneumonia, failure),
            2 * (effusion if left else thick),
            2 * (thick if left else effusion),
            2 * pneumothorax + 3.2 * device,
        ]
        written_means = [0.5 * pneumonia, 4.4 * left - 2.2, 2.6 * renal, 2.6 * device]
        cuts = [[-0.9, 0, 0.8, 1.7], [-1.4, -0.4, 0.4, 1.4], [0, 0.9, 1.6, 2.6], [0, 0.9, 1.6, 2.6]]
        valued = {0: 0.9 * pneumonia, 2: 1.8 * failure + 2.4 * renal, 4: 0.4 * effusion, 6: 0.4 * pneumothorax}
        about = [pneumonia, pneumonia, failure, failure, effusion, effusion, pneumothorax, pneumothorax]
        if "image" in chosen:
            weight *= math.exp(-0.5 * sum((x - mean) ** 2 for x, mean in zip(image, shown, strict=True)))
        if "text" in chosen:
            for grade, mean, thresholds in zip(grades, written_means, cuts, strict=True):
                edges = [-math.inf, *thresholds, math.inf]
                below = [0.5 * math.erfc((mean - edge) / math.sqrt(2)) for edge in edges]
                weight *= below[int(grade) + 1] - below[int(grade)]
        if "observations" in chosen:
            for place, there in enumerate(measured):
                rate = rates[bool(about[place])]
                mean = valued.get(place, 0.0)
                weight *= (1 - rate) * math.exp(-0.5 * (written[place] - mean) ** 2) if there else rate
        total += weight
        found += weight * np.array([pneumonia, failure, effusion, pneumothorax])
    return found / total


def test_the_oracle_is_the_enumeration_of_all_states_for_every_subset() -> None:
    _, readings = sample(4, 3, DESIGN)
    values = readings["observations"]
    for subset in nonempty_subsets(DEFAULT_MODALITIES):
        likelihoods = likelihoods_of(readings, design=DESIGN)
        if "observations" in subset:
            # Age and sex come with the values, and are left out of what is enumerated here.
            likelihoods[:, 2] -= np.log(STATES.given(values.age, values.sex)) - np.log(STATES.prior)
        answers = posterior(STATES.prior, likelihoods, DEFAULT_MODALITIES, subset)
        for row, answer in enumerate(answers):
            by_hand = _by_hand(
                readings["image"][row], readings["text"][row], values.written[row], values.measured[row], set(subset)
            )
            np.testing.assert_allclose(answer, by_hand, rtol=1e-9)


def test_states_have_the_chances_of_their_table() -> None:
    """P(state | age 18 to 40, man) of one state, by hand from the rows."""
    chances = dict.fromkeys(STATES.members, 0.0)
    state = sum(1 << STATES.members.index(name) for name in ("heart_failure", "pneumonia", "left", "thickening"))

    def chance(probability: float, *ratios: float) -> float:
        odds = probability / (1 - probability) * math.prod(ratios)
        return odds / (1 + odds)

    chances = {
        "renal_failure": 1 - chance(0.36, 1.05),
        "left": 0.5,
        "device": 0.5,
        "heart_failure": chance(0.41, 1.05),
        "pneumonia": chance(0.44, 0.4),
        "pleural_effusion": 1 - chance(0.29, 1.3),
        "thickening": 0.8,
        "pneumothorax": 1 - chance(0.32, 1.05),
    }
    assert STATES.states[0, 1, state] == pytest.approx(math.prod(chances.values()))
    assert STATES.states.sum(axis=2) == pytest.approx(1)


def test_posteriors_are_calibrated(large: tuple[npt.NDArray[np.bool_], Any, dict[str, Floats]]) -> None:
    present, _, best = large
    for key, finding in itertools.product(best, range(len(FINDINGS))):
        chance, label = best[key][:, finding], present[:, finding]
        for part in np.array_split(np.argsort(chance), 10):
            error = np.sqrt((chance[part] * (1 - chance[part])).sum()) / len(part)
            assert abs(label[part].mean() - chance[part].mean()) < 4.5 * error, (key, FINDINGS[finding])


def _gain(present: npt.NDArray[np.bool_], answers: Floats) -> Floats:
    """AUROC less .5, by finding."""
    return np.array([roc_auc_score(present[:, f], answers[:, f]) for f in range(len(FINDINGS))]) - 0.5


def test_a_product_of_exact_experts_reaches_less_than_85_percent_of_the_possible(
    large: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], dict[str, Floats]],
) -> None:
    present, has, best = large
    prior = STATES.prior @ STATES.present[:, :4]
    products = {key: product_of_experts(best, prior, key, exclusive=False) for key in best}
    shares = _gain(present, products[EVERYTHING]) / _gain(present, best[EVERYTHING])
    assert shares.mean() == pytest.approx(0.77, abs=0.015)
    assert all(share < most for share, most in zip(shares, (0.96, 0.94, 0.5, 0.85), strict=True))
    as_present, product = (np.tile(prior, (len(has), 1)) for _ in range(2))
    for subset in nonempty_subsets(DEFAULT_MODALITIES):
        rows = (has == [name in subset for name in DEFAULT_MODALITIES]).all(axis=1)
        as_present[rows], product[rows] = (found[subset_key(subset)][rows] for found in (best, products))
    overall = (_gain(present, product) / _gain(present, as_present)).mean()
    assert overall == pytest.approx(0.785, abs=0.015)
    assert overall < 0.85


def test_no_modality_is_enough_and_the_side_says_nothing_alone(
    large: tuple[npt.NDArray[np.bool_], Any, dict[str, Floats]],
) -> None:
    present, _, best = large
    possible = _gain(present, best[EVERYTHING])
    assert (possible > 0.38).all()
    for name in DEFAULT_MODALITIES:
        assert _gain(present, best[name]).mean() < 0.65 * possible.mean(), name
    # Note and values cannot tell an effusion, the image with its two bases hardly; image and note can.
    effusion = FINDINGS.index("pleural_effusion")
    alone = [_gain(present, best[name])[effusion] for name in ("text", "image", subset_key(("image", "text")))]
    assert alone[0] < 0.03
    assert alone[1] < 0.17
    assert alone[2] > 0.40


@pytest.mark.parametrize(
    ("finding", "image", "changed", "falls"),
    [
        # The same opacity: pneumonia, until the NT-proBNP is high; and heart failure, until the kidneys explain it.
        ("pneumonia", [3.0, 0, 0, 0], {"observations": {2: 4.0}}, 0.2),
        ("heart_failure", [3.0, 0, 0, 0], {"text": [2, 2, 4, 0], "observations": {2: 2.4}}, 0.1),
        ("pneumothorax", [0, 0, 0, 3.2], {"text": [2, 2, 0, 4]}, 0.5),
        ("pleural_effusion", [0, 2.5, 0, 0], {"text": [2, 0, 0, 0]}, 0.5),
    ],
)
def test_another_modality_turns_the_same_image(
    finding: str, image: list[float], changed: dict[str, Any], falls: float
) -> None:
    _, readings = sample(1, 4, DESIGN)
    values = replace(readings["observations"], written=np.zeros((1, 8)), measured=np.ones((1, 8), bool))
    if 2 in changed.get("observations", {}) and "text" in changed:
        values.written[0, 2] = changed["observations"][2]
    before = {"image": np.array([image]), "text": np.array([[2, 4, 0, 0]]), "observations": values}
    after = dict(before)
    if "text" in changed:
        after["text"] = np.array([changed["text"]])
    else:
        other = values.written.copy()
        other[0, 2] = changed["observations"][2]
        after["observations"] = replace(values, written=other)
    k = FINDINGS.index(finding)
    answers = [
        posterior(STATES.prior, likelihoods_of(read, design=DESIGN), DEFAULT_MODALITIES, DEFAULT_MODALITIES)[0, k]
        for read in (before, after)
    ]
    assert answers[0] - answers[1] > falls


def test_the_oracle_of_a_written_cohort_is_that_of_its_evidence(cohort: Path) -> None:
    oracle = load_oracle(cohort)
    assert oracle.likelihoods.shape == (STUDIES, 3, 256)
    assert list(oracle.posteriors) == [subset_key(subset) for subset in nonempty_subsets(DEFAULT_MODALITIES)]
    image = oracle.evidence.filter(like="image:").to_numpy()
    assert list(oracle.evidence.filter(regex="^image:")) == [
        f"image:{name}" for name in table("interaction/evidence")["image"]
    ]
    has = oracle.evidence["has:image"].to_numpy(bool)
    by_hand = [_by_hand(row[:4], np.zeros(4), np.zeros(8), np.zeros(8), {"image"}) for row in image[has]]
    np.testing.assert_allclose(oracle.posteriors["image"][has], by_hand, rtol=1e-6)
    np.testing.assert_allclose(
        oracle.posteriors["image"][~has], np.tile(STATES.prior @ STATES.present[:, :4], (int((~has).sum()), 1))
    )
    states = pd.read_csv(cohort / "truth" / "states.csv")
    assert list(states) == ["study", *STATES.members, "age", "sex"]
    labels = pd.read_csv(cohort / "studies.csv")[[f"label:{name}" for name in FINDINGS]].to_numpy()
    np.testing.assert_array_equal(labels, states[list(FINDINGS)].to_numpy())


def test_the_cohort_is_a_phantom_like_any(cohort: Path) -> None:
    kind = recognise_kind(cohort)
    read = load_cohort(kind.name, cohort)
    assert (kind.name, read.name, len(read)) == ("phantom", "interaction-phantom", STUDIES)
    assert read.findings.names == FINDINGS
    assert Design.load(cohort) == Design(SEED, 64, scheme="interaction")
    assert not any(o.implausible for record in read.records for o in record.parts["observations"])
    oracle, truth = kind.load_oracle(cohort), kind.load_truth(cohort)
    assert oracle is not None
    study = read.records[0].study_id
    best = truth.modality_log_odds(study)
    present = truth.drawn(study).evidence.modalities
    answer = 1 / (1 + np.exp(-best[frozenset(present)]))
    np.testing.assert_allclose(answer, oracle.posteriors[EVERYTHING][0], rtol=1e-9)
    moved = kind.load_renderer(cohort).render("text", study, held_out_phrases=True)
    assert {span.channel for span in moved.spans} == set(InteractionText.wording.channels)
    with_image = next(record.study_id for record in read.records if record.files["image"])
    masks = load_masks(cohort, with_image, tuple(InteractionImage.shifts))
    assert list(masks) == ["opacity", "left_base", "right_base", "pleural_line"]
    half = masks["left_base"].shape[1] // 2
    assert not masks["left_base"][:, : half - 4].any()
    assert not masks["right_base"][:, half + 4 :].any()


def test_the_same_evidence_under_two_states_gives_the_same_bytes() -> None:
    """Renderers see evidence and nuisance, never the state."""
    design = replace(DESIGN, seed=4)
    model = design.evidence()
    for index in range(6):
        drawn = draw_study(design, index, design.states(), model)
        flipped = State(tuple(not flag for flag in drawn.state.present), 90, Sex.MALE)
        other = Drawn(
            drawn.index,
            drawn.patient,
            flipped,
            drawn.evidence,
            drawn.site,
            drawn.reference_time,
            drawn.note_time,
            drawn.demographics,
        )
        one, two = (render_study(design, model, study).parts for study in (drawn, other))
        assert one.keys() == two.keys()
        assert one.get("text") == two.get("text")
        assert one.get("observations") == two.get("observations")
        if "image" in one:
            assert one["image"].pixels.tobytes() == two["image"].pixels.tobytes()


def _digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_seed_gives_its_bytes_on_any_number_of_workers_and_another_seed_others(cohort: Path, tmp_path: Path) -> None:
    write_phantom(tmp_path / "again", STUDIES, SEED, size=64, workers=2, scheme="interaction")
    assert _digests(tmp_path / "again") == _digests(cohort)
    write_phantom(tmp_path / "other", 3, SEED + 1, size=64, workers=1, scheme="interaction")
    write_phantom(tmp_path / "ordinary", 3, SEED, size=64, workers=1)
    first, other, ordinary = (_digests(root) for root in (cohort, tmp_path / "other", tmp_path / "ordinary"))
    images = [name for name in other if name.startswith("images/")]
    assert images
    assert not any(first.get(name) in (other[name], ordinary.get(name, "")) for name in images)


PHRASES = [
    (channel, grade, phrase)
    for channel, grades in table("interaction/phrases").items()
    for grade, bank in enumerate(grades)
    for phrase in bank
]


def _shortened(phrase: str) -> str:
    for long, short in table("writing")["abbreviations"]:
        phrase = phrase.lower().replace(long, short)
    return phrase.lower()


def test_no_phrase_stands_in_two_grades_however_it_is_abbreviated() -> None:
    others: list[tuple[str | None, int, str]] = [*PHRASES]
    others += [
        (None, 0, words)
        for name in ("fillers", "history_openers", "indication_openers")
        for words in table("writing")[name]
    ]
    assert all(len(grades) == 5 for grades in table("interaction/phrases").values())
    assert all(len(bank) == 6 for grades in table("interaction/phrases").values() for bank in grades)
    for (one, grade, phrase), (other, other_grade, text) in itertools.product(PHRASES, others):
        if (one, grade) != (other, other_grade):
            assert phrase.lower() not in text.lower(), (phrase, text)
            assert _shortened(phrase) not in _shortened(text), (phrase, text)


def test_masking_identifiers_leaves_every_phrase_its_meaning() -> None:
    for channel, _, phrase in PHRASES:
        assert mask_text(f"Seen on the ward, {phrase}, smoker.").text == f"Seen on the ward, {phrase}, smoker.", channel


def test_length_of_a_note_hardly_follows_its_grades() -> None:
    """Otherwise a probe of the note's length would call a clean cohort suspect."""
    rng = np.random.default_rng(0)
    phantom = InteractionText(STATES.members)
    evidence = rng.normal(phantom.means[rng.choice(256, 2000, p=STATES.prior)])
    notes = [
        render_note(e, np.random.default_rng(seed), "north", wording=phantom.wording) for seed, e in enumerate(evidence)
    ]
    lengths = [len(note.history) + len(note.indication) for note in notes]
    for channel in range(evidence.shape[1]):
        assert abs(np.corrcoef(evidence[:, channel], lengths)[0, 1]) < 0.15, phantom.wording.channels[channel]


def test_shifts_reach_the_scheme_and_its_own_members(tmp_path: Path) -> None:
    shift = Shift(prevalence_odds={"device": 4.0}, missing_modality={"text": 0.5})
    write_phantom(tmp_path / "cohort", 40, SEED, size=64, workers=1, scheme="interaction", shift=shift)
    states = pd.read_csv(tmp_path / "cohort" / "truth" / "states.csv")
    assert 0.65 < states["device"].mean() < 0.95
    with pytest.raises(InputError, match=r"prevalence_odds: got 'scar', must be one of pneumonia, .*, left"):
        write_phantom(tmp_path / "x", 3, 1, 64, scheme="interaction", shift=Shift(prevalence_odds={"scar": 2.0}))
    with pytest.raises(InputError, match="scheme: got 'crossed', must be one of ordinary, interaction"):
        write_phantom(tmp_path / "x", 3, 1, 64, scheme="crossed")
    assert not (tmp_path / "x").exists()


def test_a_term_of_something_unknown_is_refused() -> None:
    class Odd(InteractionImage):
        shifts = {"opacity": {"pneumonia !scar": 1.0}}  # noqa: RUF012

    with pytest.raises(InputError, match="evidence: got 'scar', must be one of the design's members: pneumonia"):
        _ = Odd(find_scheme("interaction").states().members).means
