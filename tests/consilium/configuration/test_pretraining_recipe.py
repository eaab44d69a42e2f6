"""The recipe's section of pretraining: what a stage may change, and that nothing else reads the answers."""

from __future__ import annotations

import pytest

from consilium.configuration.pretraining_recipe import objective_names
from consilium.configuration.pretraining_stages import recipe_of_stages, stage_recipe
from consilium.configuration.recipe import Recipe
from consilium.domain.errors import InputError, RecipeError
from consilium.modalities.text.note import NoteKind
from tests.consilium.tiny import TEXT, tiny_recipe, tiny_study

REPORTS = {"name": "reports", "modalities": {"text": {"note_kinds": ["findings"]}}, "epochs": 3}
NOTES = {"name": "notes", "modalities": {"text": {"note_kinds": ["history"]}}, "learning_rate": 0.01}


def staged(*stages: dict[str, object], **keys: object) -> Recipe:
    return tiny_recipe(pretraining={"objectives": {"clip": 1.0}, "stages": list(stages), **keys})


@pytest.mark.parametrize("kind", ["findings", "impression"])
def test_a_supervised_recipe_cannot_read_what_was_written_afterwards(kind: str) -> None:
    with pytest.raises(RecipeError, match=rf"modalities\.text: got '{kind}'.*only a stage in pretraining\.stages"):
        tiny_recipe(text={**TEXT, "note_kinds": ["history", kind]})


def test_a_stage_can_and_the_recipe_itself_still_does_not() -> None:
    recipe = staged(REPORTS, NOTES)
    reports, notes = (stage_recipe(recipe, position) for position in (0, 1))
    assert reports.modalities["text"].note_kinds == (NoteKind.FINDINGS,)
    assert notes.modalities["text"].note_kinds == (NoteKind.HISTORY,)
    assert recipe.modalities["text"].answers_read == ()
    assert (reports.training.epochs, notes.training.epochs) == (3, recipe.pretraining.epochs)
    assert (reports.training.learning_rate, notes.training.learning_rate) == (0.001, 0.01)
    assert Recipe.from_mapping(recipe.model_dump(mode="json")) == recipe


def test_what_all_stages_share_reads_what_any_reads() -> None:
    assert recipe_of_stages(staged(REPORTS, NOTES)).modalities["text"].note_kinds == (
        NoteKind.FINDINGS,
        NoteKind.HISTORY,
    )
    assert recipe_of_stages(staged()).modalities == staged().modalities


def test_a_report_is_written_after_the_reference_time() -> None:
    study = tiny_study(1)
    assert stage_recipe(staged(REPORTS), 0).inputs.after_hours == 168
    assert stage_recipe(staged(REPORTS, after_hours=12), 0).inputs.after_hours == 12
    assert study.reference_time is not None


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"text": {"width": 32}}, "got 'width', must be one of note_kinds, word_dropout"),
        ({"image": {"size": 64}}, "got 'size', must not be there: image has none"),
        ({"text": {"note_kinds": ["letters"]}}, r"modalities\.text\.note_kinds\.0: got 'letters'"),
    ],
)
def test_a_stage_may_not_change_what_the_encoder_is_made_of(stage: dict[str, object], message: str) -> None:
    recipe = staged({"name": "odd", "modalities": stage})
    with pytest.raises(InputError, match=message):
        stage_recipe(recipe, 0)


@pytest.mark.parametrize(
    ("pretraining", "message"),
    [
        ({"objectives": {"clipp": 1.0}}, f"must be one of {', '.join(objective_names())}"),
        ({"objectives": {"clip": -1}}, "greater than or equal to 0"),
        ({"pairs": [["image", "image"]]}, r"must be two modalities, such as \[image, text\]"),
        ({"pairs": [["image", "gait"]]}, "must name installed modalities"),
        ({"stages": [REPORTS, REPORTS]}, "stages must have names of their own"),
        ({"stages": [{"name": "a", "modalities": {"volume": {}}}]}, "must be one of the recipe's modalities"),
        ({"stages": [REPORTS | {"frozen": ["volume"]}]}, r"stages\.reports\.frozen: .* one of the recipe's modalities"),
        ({"stages": [REPORTS | {"frozen": ["image", "text", "observations"]}]}, "must leave a modality that learns"),
        ({"epoch": 3}, "the nearest is 'epochs'"),
    ],
)
def test_wrong_sections_are_refused(pretraining: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        tiny_recipe(pretraining=pretraining)


def test_a_pair_of_a_modality_that_the_recipe_lacks_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"pretraining\.pairs\.0: got 'text', must be one of the recipe's modalities"):
        tiny_recipe(modalities=["image", "observations"], pretraining={"pairs": [["image", "text"]]})
