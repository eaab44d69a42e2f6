"""Study → Batch: the only preprocessing there is, for training and for the service.

`Preprocessing` is fitted once on the training studies and travels in the artifact. `prepare` turns one Study into NumPy
arrays, `collate` several of them into tensors with masks. What a model may read (kinds of note, time window, known
variables) is decided here, and what was left out is said in a warning.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from consilium import masking
from consilium.configuration.recipe import Recipe
from consilium.domain.errors import ArtifactError, InputError, with_reasons
from consilium.domain.study import Patient, Study
from consilium.domain.variable_records import variables_from_json, variables_to_json
from consilium.domain.variables import BUILT_IN, Variable, VariableTable
from consilium.masking import MaskedText, Span, mask_text
from consilium.modalities.image import letterbox
from consilium.modalities.image.image_record import Image, ViewPosition
from consilium.modalities.image.letterbox import Letterbox
from consilium.modalities.image.origins import Origins
from consilium.modalities.observations.features import (
    LEAST_VALUES,
    Aspect,
    Course,
    Feature,
    Reading,
    contradicted,
    courses,
    demographic,
    fit_features,
    side,
)
from consilium.modalities.observations.observation import Observation
from consilium.modalities.text.note import Note
from consilium.modalities.text.wordpiece import train_wordpiece
from consilium.preprocessing.batch import Batch, EncodedText, Piece, Prepared

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_VIEWS = list(ViewPosition)
_WHITE = 65535.0


class Preprocessing:
    """Everything between a Study and a Batch; fitted once, never changed.

    Attributes
    ----------
    features : tuple of Feature
        Inputs of the observation encoder, A of them.
    variables : VariableTable
        What the observations' variables are: the built-in ones, and those of the cohort.
    text_config : dict or None
        Hugging Face configuration of the text model; None where the recipe has no text.
    origins : Origins
        Of the training images.
    """

    def __init__(
        self,
        recipe: Recipe,
        features: tuple[Feature, ...],
        tokenizer: PreTrainedTokenizerBase | None,
        text_config: dict[str, Any] | None,
        variables: VariableTable = BUILT_IN,
        origins: Origins | None = None,
    ) -> None:
        self.recipe = recipe
        self.variables = variables
        self.features = features
        self.tokenizer = tokenizer
        self.text_config = text_config
        self.origins = origins or Origins()

    @property
    def read_variables(self) -> tuple[Variable, ...]:
        """The variables that the model reads, in the order of the table."""
        read = {feature.variable for feature in self.features}
        return tuple(variable for variable in self.variables.values() if variable.name in read)

    # --- fitting -----------------------------------------------------------------------------------------------------

    @classmethod
    def fit(cls, recipe: Recipe, studies: Iterable[Study], variables: VariableTable = BUILT_IN) -> Preprocessing:
        """Learn scaling, vocabulary and what image files say of themselves from the training studies; no pixels."""
        studies = [_readable(study, recipe) for study in studies]
        features: tuple[Feature, ...] = ()
        if "observations" in recipe.modalities:
            features = fit_features(studies, variables, recipe.observations.history)
        if "observations" in recipe.modalities and not features:
            rule = f"needs age, sex or a variable known for at least {LEAST_VALUES} training studies"
            raise InputError("recipe.modalities", "observations", rule)
        origins = Origins.of(image for study in studies for image in study.images)
        if "text" not in recipe.modalities:
            return cls(recipe, features, None, None, variables, origins)
        tokenizer, config = _fit_text(studies, recipe)
        return cls(recipe, features, tokenizer, config, variables, origins)

    # --- one study ---------------------------------------------------------------------------------------------------

    @property
    def image_key(self) -> str:
        """Names everything that decides how an Image becomes [S, S]."""
        return f"letterbox{letterbox.VERSION}-{self.recipe.image.size}"

    @property
    def text_key(self) -> str:
        """Names everything but the vocabulary that decides how a note becomes word pieces."""
        return f"masking{masking.VERSION}" if self.recipe.inputs.mask_notes else "as sent"

    def image(self, image: Image) -> npt.NDArray[np.uint16]:
        """The model's view of `image`, uint16 [S, S]."""
        return Letterbox(*image.shape, self.recipe.image.size).forward(image.pixels)

    def prepare(self, study: Study, images: Sequence[npt.NDArray[np.uint16]] | None = None) -> Prepared:
        """Arrays of one study; `images` are those of `image` where they were made before.

        Raises
        ------
        InputError
            Where nothing remains that the model could read.
        """
        recipe = self.recipe
        received, study = study, _readable(study, recipe)
        unknown_origin = self.origins.unknown(study.images)
        warnings = [*study.warnings, *received.contradictions, *unknown_origin]
        side = recipe.image.size
        if "image" in recipe.modalities:
            squares = [self.image(image) for image in study.images] if images is None else list(images)
            boxes = tuple(Letterbox(image.shape[0], image.shape[1], side, image.grid) for image in study.images)
            views = [_VIEWS.index(image.view) for image in study.images]
        else:
            squares, boxes, views = [], (), []
        text, text_warnings = self._encode(received, study.notes)
        numbers, codes, read, value_warnings = self._standardise(study)
        prepared = Prepared(
            study=received,
            images=np.stack(squares) if squares else np.zeros((0, side, side), np.uint16),
            views=np.array(views, np.int64),
            letterboxes=boxes,
            text=text,
            observations=numbers,
            observation_codes=codes,
            read=read,
            warnings=tuple(warnings + text_warnings + value_warnings),
            unknown_origin=unknown_origin,
        )
        if not prepared.present:
            needed = " or ".join(modality for modality in recipe.modalities)
            rule = with_reasons(f"must have {needed}", prepared.warnings)
            raise InputError("study", "nothing that this model reads", rule)
        return prepared

    def _encode(self, received: Study, notes: Sequence[Note]) -> tuple[EncodedText, list[str]]:
        ids: list[int] = []
        pieces: list[Piece | None] = []
        warnings: list[str] = []
        if self.tokenizer is None or not notes:
            return EncodedText(np.zeros(0, np.int64), ()), warnings
        names = received.known_names
        masked: dict[int, tuple[Span, ...]] = {}
        for note in notes:
            if not note.text.strip():
                continue
            number, read = received.notes.index(note), _masked(note, names, self.recipe)
            masked[number] = read.spans
            marker = f"{note.kind.value}: "
            encoded = self.tokenizer(marker + read.text, return_offsets_mapping=True, verbose=False)
            for token, (start, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
                inside = end > start >= len(marker)
                ids.append(token)
                origin = read.origin(start - len(marker), end - len(marker)) if inside else None
                pieces.append(None if origin is None else Piece(number, *origin))
        longest = self.recipe.text.max_tokens
        if len(ids) > longest:
            warnings.append(f"notes cut off: {len(ids)} word pieces, the model reads {longest}")
        return EncodedText(np.array(ids[:longest], np.int64), tuple(pieces[:longest]), masked), warnings

    def _standardise(
        self, study: Study
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], tuple[Course | None, ...], list[str]]:
        known = courses(study.observations)
        numbers = np.full(len(self.features), np.nan, np.float32)
        codes = np.zeros(len(self.features), np.int64)
        read: list[Course | None] = []
        for position, feature in enumerate(self.features):
            course = known.get(feature.variable)
            reading = None if course is None else feature.read(course, study.reference_time)
            demographics = demographic(study.patient, feature.variable)
            if demographics is not None:
                reading = Reading(feature.scale(demographics))
            read.append(course if reading is not None else None)
            if reading is not None:
                numbers[position], codes[position] = reading.number, reading.code
        return numbers, codes, tuple(read), self._value_warnings(study.observations, known)

    def _value_warnings(self, given: Sequence[Observation], known: Mapping[str, Course]) -> list[str]:
        """What of the values is not read, or not read as it stands."""
        if not self.features:
            return []
        values = {feature.variable: feature for feature in self.features if feature.aspect is Aspect.VALUE}
        warnings = [
            f"observation not read by this model: {self.variables[name].display if name in self.variables else name}"
            for name in sorted(set(known) - set(values))
        ]
        for name in sorted(set(known) & set(values)):
            last, feature = known[name].last, values[name]
            if contradicted(given, last):
                shown, when = self.variables[name].display, "of one time" if last.time else "without a time"
                warnings.append(f"{shown}: values {when} differ, the last one that was sent is read, {last.given_text}")
            if feature.code(last):
                continue
            if feature.categorical:
                rule = "no training study of this model had this category"
                warnings.append(f"observation left out: {self.variables[name].display} {last.category}, {rule}")
            elif side(last):
                rule = "read as the limit itself, since no training study of this model had such a value"
                warnings.append(f"{self.variables[name].display} {last.given_text}: {rule}")
        return warnings

    # --- several studies ---------------------------------------------------------------------------------------------

    def collate(self, items: Sequence[Prepared], labels: npt.NDArray[np.float32] | None = None) -> Batch:
        """Pad to the widest study of the batch."""
        side = self.recipe.image.size
        most_views = max(1, *(len(item.images) for item in items))
        most_pieces = max(1, *(len(item.text.input_ids) for item in items))
        images = np.zeros((len(items), most_views, 1, side, side), np.float32)
        image_mask = np.zeros((len(items), most_views), bool)
        views = np.zeros((len(items), most_views), np.int64)
        input_ids = np.zeros((len(items), most_pieces), np.int64)
        text_mask = np.zeros((len(items), most_pieces), bool)
        for row, item in enumerate(items):
            seen, said = len(item.images), len(item.text.input_ids)
            images[row, :seen, 0] = item.images / _WHITE
            image_mask[row, :seen] = True
            views[row, :seen] = item.views
            input_ids[row, :said] = item.text.input_ids
            text_mask[row, :said] = True
        observations = np.stack([item.observations for item in items])
        codes = np.stack([item.observation_codes for item in items])
        known = np.isfinite(observations)
        return Batch(
            images=torch.from_numpy(images),
            image_mask=torch.from_numpy(image_mask),
            views=torch.from_numpy(views),
            input_ids=torch.from_numpy(input_ids),
            text_mask=torch.from_numpy(text_mask),
            observations=torch.from_numpy(np.where(known, observations, 0).astype(np.float32)),
            observation_codes=torch.from_numpy(codes),
            observation_mask=torch.from_numpy(known),
            labels=None if labels is None else torch.from_numpy(np.asarray(labels, np.float32)),
        )

    # --- in the artifact ---------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write JSON and tokenizer files into `folder`, which is made."""
        folder.mkdir(parents=True)
        state = {
            "image_key": self.image_key,
            "text_key": self.text_key,
            "features": [asdict(feature) for feature in self.features],
            "variables": variables_to_json(self.variables, (feature.variable for feature in self.features)),
            "text_config": self.text_config,
            "origins": self.origins.to_json(),
        }
        (folder / "preprocessing.json").write_text(json.dumps(state, indent=1), encoding="utf-8")
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder / "tokenizer")

    @classmethod
    def load(cls, folder: Path, recipe: Recipe) -> Preprocessing:
        """Read what `save` wrote.

        Raises
        ------
        ArtifactError
            Where this version would prepare images or notes otherwise than the one that trained the model.
        """
        state = json.loads((folder / "preprocessing.json").read_text(encoding="utf-8"))
        tokenizer = None
        if state["text_config"] is not None:
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        features = tuple(Feature.from_json(feature) for feature in state["features"])
        variables = variables_from_json(state["variables"])
        origins = Origins.from_json(state["origins"])
        loaded = cls(recipe, features, tokenizer, state["text_config"], variables, origins)
        if loaded.image_key != state["image_key"]:
            raise ArtifactError(f"image preparation {state['image_key']} is not this version's {loaded.image_key}")
        if loaded.text_key != state["text_key"]:
            raise ArtifactError(f"text preparation {state['text_key']} is not this version's {loaded.text_key}")
        return loaded

    @property
    def digest(self) -> str:
        """SHA-256 over everything that was fitted."""
        vocabulary = sorted(self.tokenizer.get_vocab().items()) if self.tokenizer is not None else []
        features, variables = [repr(feature) for feature in self.features], variables_to_json(self.variables)
        state = [self.image_key, self.text_key, features, vocabulary, variables, self.origins.to_json()]
        return hashlib.sha256(json.dumps(state).encode()).hexdigest()


def _readable(study: Study, recipe: Recipe) -> Study:
    """What of `study` the recipe allows: modalities, kinds of note, time window, plausible values."""
    study = study.within(recipe.inputs.window)
    notes = tuple(note for note in study.notes if note.kind in recipe.inputs.note_kinds)
    left_out = Counter(note.kind.value for note in study.notes if note.kind not in recipe.inputs.note_kinds)
    warnings = [f"note ({kind}) left out: not read by this model" for kind in left_out]
    reads = set(recipe.modalities)
    return replace(
        study.with_parts(
            image=study.images if "image" in reads else (),
            text=notes if "text" in reads else (),
            observations=study.observations if "observations" in reads else (),
        ),
        patient=study.patient if "observations" in reads else Patient(),
        warnings=(*study.warnings, *warnings),
    )


def _masked(note: Note, names: Sequence[str], recipe: Recipe) -> MaskedText:
    """What a model reads of `note`. A cohort's notes were masked when they were read, which this leaves as they are."""
    return mask_text(note.text, names) if recipe.inputs.mask_notes else MaskedText(note.text, ())


def _fit_text(studies: Sequence[Study], recipe: Recipe) -> tuple[PreTrainedTokenizerBase, dict[str, Any]]:
    from transformers import AutoConfig, AutoTokenizer, BertConfig

    text = recipe.text
    if text.model is not None:
        try:
            config = AutoConfig.from_pretrained(text.model)
            return AutoTokenizer.from_pretrained(text.model), config.to_dict()
        except (OSError, ValueError) as error:
            rule = f"must be a Hugging Face model's hub id or local folder ({type(error).__name__})"
            raise InputError("text.model", text.model, rule) from None
    notes = [
        (study.patient_id, f"{note.kind.value}: {_masked(note, study.known_names, recipe).text}")
        for study in studies
        for note in study.notes
    ]
    if not notes:
        raise InputError("recipe.modalities", "text", "needs notes of the kinds that the recipe reads")
    tokenizer = train_wordpiece(notes, text.vocabulary)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=text.width,
        num_hidden_layers=text.depth,
        num_attention_heads=text.heads,
        intermediate_size=4 * text.width,
        max_position_embeddings=text.max_tokens,
        hidden_dropout_prob=text.dropout,
        attention_probs_dropout_prob=text.dropout,
        pad_token_id=tokenizer.pad_token_id,
    )
    return tokenizer, config.to_dict()
