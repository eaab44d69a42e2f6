"""Notes of the phantom: a channel per finding and confounder, of which the note tells the grade only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from consilium.modalities.text.note import AFTERWARDS, NoteKind
from training.cohorts.phantom.image.dictation import evidence_grades, impression_levels
from training.cohorts.phantom.image.phantom import ImagePhantom
from training.cohorts.phantom.phantom_modality import (
    Asked,
    Floats,
    PhantomModality,
    Row,
    Sent,
    Target,
    Written,
    channel_means,
    probability_below,
)
from training.cohorts.phantom.record import Design, Drawn, stream
from training.cohorts.phantom.schemes import DEFAULT_MODALITIES
from training.cohorts.phantom.state import MEMBERS, State, StateTable
from training.cohorts.phantom.tables import table
from training.cohorts.phantom.text.note import ORDINARY, Wording, WrittenNote, render_note

if TYPE_CHECKING:
    from training.cohorts.phantom.oracle import PhantomOracle

SPANS_FILE = "truth/spans.csv"


class TextPhantom(PhantomModality):
    """History and indication; the oracle reads the grades.

    Attributes
    ----------
    evidence_table : str
        Name of the stored table of its evidence.
    wording : Wording
        Of that table's channels, in their order.
    """

    name = "text"
    truth = "training.modalities.text.text_truth:TextTruth"
    missing = table("evidence")["missing_modality"]["text"]
    tables = MappingProxyType({SPANS_FILE: ("study", "kind", "channel", "grade", "start", "stop")})

    evidence_table: ClassVar[str] = "evidence"
    wording: ClassVar[Wording] = ORDINARY

    def __init__(self, members: tuple[str, ...] = MEMBERS) -> None:
        super().__init__(members)
        self.means: Floats = channel_means(table(self.evidence_table)["text"], members)
        """Mean of each channel in each state, float64 [S, C]."""

    def draw(self, state: State, rng: np.random.Generator) -> Floats:
        return rng.normal(self.means[state.index])

    def render(self, design: Design, study: Drawn) -> WrittenNote:
        return render_note(
            study.evidence.parts[self.name],
            stream(design, study.index, "note"),
            study.site,
            wording=self.wording,
            held_out_phrases=design.shift.held_out_phrases,
        )

    def write(self, target: Target, rendered: WrittenNote | None) -> Written:
        columns: Row = {}
        for kind in (NoteKind.HISTORY, NoteKind.INDICATION):
            text = getattr(rendered, kind.value) if rendered else ""
            columns[f"note_{kind.value}"] = text
            columns[f"note_{kind.value}_time"] = target.study.note_time.isoformat() if text else ""
        spans: list[Row] = [
            {
                "study": target.study.study_id,
                "kind": span.kind.value,
                "channel": span.channel,
                "grade": span.grade,
                "start": span.start,
                "stop": span.stop,
            }
            for span in (rendered.spans if rendered else ())
        ]
        return Written(columns, rows={SPANS_FILE: spans})

    def read(self, studies: Sequence[Drawn], rendered: Sequence[Any]) -> npt.NDArray[np.int64]:
        del rendered
        return self.wording.grades(np.stack([study.evidence.parts[self.name] for study in studies]))

    def log_likelihood(self, reading: npt.NDArray[np.int64], states: StateTable) -> Floats:
        del states
        total = np.zeros((len(reading), len(self.means)))
        for channel, thresholds in enumerate(self.wording.thresholds):
            means = self.means[:, channel]
            below = [probability_below(threshold, means) for threshold in thresholds]
            cumulative = np.stack([np.zeros_like(means), *below, np.ones_like(means)])
            total += np.log(np.diff(cumulative, axis=0))[reading[:, channel]]
        return total

    @classmethod
    def shows_evidence(cls, section: Any) -> bool:
        return any(kind not in AFTERWARDS for kind in section.note_kinds)

    @classmethod
    def repeats(
        cls, oracle: PhantomOracle, section: Any, phantoms: Mapping[str, type[PhantomModality]]
    ) -> Mapping[str, npt.NDArray[np.int64]]:
        """A report repeats the image's evidence in grades; an impression follows everything known, in levels."""
        image = phantoms[ImagePhantom.name]
        assert issubclass(image, ImagePhantom)
        found: dict[str, list[npt.NDArray[np.int64]]] = {}
        if NoteKind.FINDINGS in section.note_kinds and image.name in oracle.modalities:
            columns = [f"{image.name}:{channel}" for channel in image.shifts]
            evidence = oracle.evidence.loc[oracle.study_ids.tolist(), columns].to_numpy()
            found[image.name] = [as_code(evidence_grades(evidence, image.report_table))]
        if NoteKind.IMPRESSION in section.note_kinds:
            concluded = [name for name in oracle.modalities if name in DEFAULT_MODALITIES]
            levels = as_code(impression_levels(oracle.posterior(concluded), image.report_table))
            for name in oracle.modalities:
                found.setdefault(name, []).append(levels)
        return {name: as_code(np.stack(codes, axis=1)) for name, codes in found.items()}

    def request(self, asked: Asked) -> Sent:
        """A note of each kind that the model reads."""
        design, study = asked.design, asked.study
        note = self.render(design, study)
        texts = {NoteKind.HISTORY: note.history, NoteKind.INDICATION: note.indication}
        kinds = asked.preprocessing.recipe.modalities["text"].note_kinds
        return Sent({"notes": [{"kind": kind.value, "text": texts[kind]} for kind in kinds]})

    def describe(self, evidence: Floats) -> Row:
        channels, grades = self.wording.channels, self.wording.grades(evidence)
        drawn: Row = {f"text:{name}": float(x) for name, x in zip(channels, evidence, strict=True)}
        return drawn | {f"grade:{name}": int(grade) for name, grade in zip(channels, grades, strict=True)}


def as_code(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """One number for each distinct row of `values` [N, C], int64 [N]."""
    codes: npt.NDArray[np.int64] = np.unique(values, axis=0, return_inverse=True)[1].reshape(-1)
    return codes
