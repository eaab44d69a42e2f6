"""Strange inputs by kind: an ordinary study with one of its modalities made strange."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from consilium.domain.study import Study
from consilium.domain.variables import BUILT_IN, VariableTable
from consilium.modalities.image.image_record import ViewPosition
from consilium.modalities.image.records import read_image
from consilium.modalities.observations.observation import Observation
from consilium.modalities.text.records import read_notes
from training.cohorts.cohort import StudyRecord
from training.cohorts.phantom.image.other_parts import draw_lateral, draw_limb
from training.evaluation.out_of_distribution import odd_images as images
from training.evaluation.out_of_distribution import odd_texts as texts
from training.evaluation.out_of_distribution import odd_values as values
from training.evaluation.out_of_distribution.renderer import PhantomRenderer

_LARGEST = 256
"""Side of a made image, pixels, at most; models look at squares of about this size."""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """An ordinary study, to be made strange.

    Attributes
    ----------
    record : StudyRecord
        Where its files lie.
    study : Study
        Its images have a shape and no pixels.
    renderer : PhantomRenderer or None
        Draws the study anew under other circumstances, where it is a phantom.
    variables : VariableTable
        Of its observations.
    """

    record: StudyRecord
    study: Study
    renderer: PhantomRenderer | None
    variables: VariableTable = BUILT_IN


Change = Callable[[Case, np.random.Generator], Study]


@dataclass(frozen=True, slots=True)
class Kind:
    """One way of being strange.

    Attributes
    ----------
    name : str
    modality : str
        What of the study is changed; the rest stays as it was.
    far : bool
        Nothing that the model could answer for, against what is merely unusual.
    change : callable
        Case and generator → the strange study. A changed image has pixels.
    phantom : bool
        Only a phantom can be drawn this way.
    """

    name: str
    modality: str
    far: bool
    change: Change
    phantom: bool = False


def _images(make: Callable[[np.random.Generator, int], images.Pixels], view: ViewPosition | None = None) -> Change:
    """Each image replaced by one that is made for a generator and a side in pixels."""

    def change(case: Case, rng: np.random.Generator) -> Study:
        sides = [min(max(image.shape), _LARGEST) for image in case.study.images]
        return _with_images(case.study, [make(rng, side) for side in sides], view)

    return change


def _spoilt(spoil: Callable[[npt.NDArray[np.uint16], np.random.Generator], npt.NDArray[np.uint16]]) -> Change:
    """Each image's own pixels, changed."""

    def change(case: Case, rng: np.random.Generator) -> Study:
        contents = [file.path.read_bytes() for file in case.record.images]
        by_digest = {hashlib.sha256(content).hexdigest(): content for content in contents}
        pixels = [read_image(by_digest[image.digest]).pixels for image in case.study.images]
        return _with_images(case.study, [spoil(one, rng) for one in pixels])

    return change


def _with_images(study: Study, made: list[images.Pixels], view: ViewPosition | None = None) -> Study:
    """`study` with images read from files of these pixels; when they were taken, and from where, stays."""
    read = [read_image(images.as_png(pixels)) for pixels in made]
    return study.with_parts(
        image=tuple(
            replace(new, view=view or old.view, acquired=old.acquired)
            for new, old in zip(read, study.images, strict=True)
        )
    )


def _texts(change_text: Callable[[str, np.random.Generator], str]) -> Change:
    """Each note's text changed."""

    def change(case: Case, rng: np.random.Generator) -> Study:
        return _with_texts(case.study, [change_text(note.text, rng) for note in case.study.notes])

    return change


def _with_texts(study: Study, texts: list[str]) -> Study:
    """`study` with these texts in its notes, read again as a caller would send them."""
    sent = [
        {"kind": note.kind.value, "text": text, "time": None if note.time is None else note.time.isoformat()}
        for note, text in zip(study.notes, texts, strict=True)
    ]
    return study.with_parts(text=read_notes(sent)[0])


def _values(
    change_values: Callable[[tuple[Observation, ...], np.random.Generator, VariableTable], tuple[Observation, ...]],
) -> Change:
    def change(case: Case, rng: np.random.Generator) -> Study:
        return case.study.with_parts(observations=change_values(case.study.observations, rng, case.variables))

    return change


def _other_device(case: Case, rng: np.random.Generator) -> Study:
    del rng
    assert case.renderer is not None
    pixels = case.renderer.on_unseen_device(case.study.study_id)
    return _with_images(case.study, [pixels])


def _held_out_phrases(case: Case, rng: np.random.Generator) -> Study:
    del rng
    assert case.renderer is not None
    words = case.renderer.in_held_out_phrases(case.study.study_id)
    return _with_texts(case.study, [words.get(note.kind, note.text) for note in case.study.notes])


_IMAGE, _TEXT, _OBSERVATIONS = "image", "text", "observations"

KINDS: tuple[Kind, ...] = (
    Kind("photograph", _IMAGE, True, _images(images.photograph)),
    Kind("noise", _IMAGE, True, _images(images.white_noise)),
    Kind("blank", _IMAGE, True, _images(images.blank)),
    Kind("other body part", _IMAGE, True, _images(draw_limb)),
    Kind("inverted", _IMAGE, True, _spoilt(images.inverted)),
    Kind("rotated", _IMAGE, True, _spoilt(images.rotated)),
    Kind("lateral view", _IMAGE, False, _images(draw_lateral, ViewPosition.LATERAL)),
    Kind("shifted exposure", _IMAGE, False, _spoilt(images.shifted_exposure)),
    Kind("other device", _IMAGE, False, _other_device, phantom=True),
    Kind("empty note", _TEXT, True, _texts(texts.empty)),
    Kind("foreign language", _TEXT, True, _texts(texts.foreign)),
    Kind("shuffled words", _TEXT, True, _texts(texts.shuffled)),
    Kind("held-out phrases", _TEXT, False, _held_out_phrases, phantom=True),
    Kind("impossible values", _OBSERVATIONS, True, _values(values.impossible)),
    Kind("mixed units", _OBSERVATIONS, True, _values(values.mixed_units)),
    Kind("one mixed unit", _OBSERVATIONS, False, _values(values.one_mixed_unit)),
)
"""Every kind, far ones before near ones of each modality."""
