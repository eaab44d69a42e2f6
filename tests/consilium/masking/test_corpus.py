import random

import pytest

from tests.consilium.masking.corpus import (
    DATES,
    DEVELOPMENT,
    LOCALES,
    PLANTED,
    PROSE,
    TEST,
    clean_sentences,
    masked_words,
    name,
    planted_sentences,
    recall,
)


def test_the_halves_share_no_prose():
    assert not set(PLANTED[DEVELOPMENT]) & set(PLANTED[TEST])
    for kind, phrases in PROSE[DEVELOPMENT].items():
        assert not set(phrases) & set(PROSE[TEST][kind])


def test_the_corpus_is_as_wide_as_it_says():
    planted = {one.kind for sentence in planted_sentences(TEST, 2000, 1) for one in sentence.planted}
    assert {kind for kind in planted if kind.startswith("date")} == {f"date {form}" for form in DATES}
    assert len(DATES) >= 15
    assert len([kind for kind in planted if kind.startswith("name")]) == 10
    assert planted >= {"identifier", "phone", "address"}
    rng = random.Random(1)
    assert len({name(rng, locale)[0] for locale in LOCALES for _ in range(10)}) > 100


@pytest.mark.parametrize(("half", "sentences"), [(DEVELOPMENT, 500), (TEST, 2000)])
def test_what_is_planted_goes(half, sentences):
    written = recall(planted_sentences(half, sentences, 1), names_given=True)
    shown = "\n".join(map(str, written.missed[:40]))
    assert written.share >= 0.99, shown
    for kind, planted in written.planted.items():
        assert written.found[kind] / planted >= 0.9, f"{kind}\n{shown}"


def test_names_that_nobody_tells_are_found_by_half_and_the_rest_as_well():
    without_names = recall(planted_sentences(TEST, 1000, 1), names_given=False)
    others = [kind for kind in without_names.planted if not kind.startswith("name")]
    found = sum(without_names.found[kind] for kind in others) / sum(without_names.planted[kind] for kind in others)
    assert found >= 0.99, without_names.missed[:40]
    assert without_names.share >= 0.5


@pytest.mark.parametrize(("half", "sentences"), [(DEVELOPMENT, 1000), (TEST, 5000)])
def test_prose_without_anything_to_hide_stays(half, sentences):
    words, masked = masked_words(clean_sentences(half, sentences, 1))
    assert words > 8 * sentences
    assert len(masked) <= words / 1000, masked[:40]
