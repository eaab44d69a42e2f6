"""The interaction scheme: a phantom in which what a modality shows means nothing before another one is read.

Notation. A state s = (f, c) holds the four findings f and four hidden circumstances c, each 0 or 1: renal failure r,
pleural thickening t, a device d on the chest, and the side l that the patient complains of (1: left). There are
S = 2^8 states, all enumerated. Evidence x_m of modality m is drawn from p(x_m | s): given the state the modalities are
independent. Given a finding they are *not*, since c is shared, and that is the whole point.

    image         opacity       N(3.0 [pneumonia or heart failure], 1)
                  left base     N(2.0 ([effusion] l + t (1 - l)), 1)
                  right base    N(2.0 ([effusion] (1 - l) + t l), 1)
                  pleural line  N(2.0 [pneumothorax] + 3.2 d, 1)
    note          fever, side, renal failure, device, each Gaussian and then cut into five grades that words are
                  written for: N(0.5 [pneumonia], 1), N(4.4 l - 2.2, 1), N(2.6 r, 1), N(2.6 d, 1)
    observations  CRP N(0.9 [pneumonia], 1), NT-proBNP N(1.8 [heart failure] + 2.4 r, 1),
                  albumin N(0.4 [effusion], 1), pO2 N(0.4 [pneumothorax], 1); the others N(0, 1); some not measured

So the same opacity is pneumonia with fever and CRP, and heart failure (fluid) with a high NT-proBNP, unless the note
names the kidneys that explain it; a device that the note names explains the line that looks like a pneumothorax; and a
shadow at a base is an effusion on the side that the words name, while an old thickening lies on the other one: without
the words, left and right say nothing of which is which. The numbers, P(s) given age and sex among them, are in
`tables/interaction/`.

Best possible answer. For a subset M of the modalities a record has, with log-likelihoods added state by state,

    P(f_k = 1 | x_M) = sum over s with f_k = 1 of P(s) prod_{m in M} p(x_m | s)  /  the same sum over all s,

which is exact for any P(s) and any p(x_m | s): no independence given a finding enters. An absent modality contributes
the factor 1 (absence is completely at random); age and sex belong to the observations. The module
`training.cohorts.phantom.oracle` computes it and stores the log-likelihoods.

Best possible answer without interaction. Experts who each know their own posterior exactly and multiply odds,

    logit P_product(f_k) = sum over m of logit P(f_k = 1 | x_m) - (|M| - 1) logit P(f_k = 1),

would be right were the x_m independent given f_k. They are not: for the effusion, say, x_text alone leaves the prior as
it is (its logit adds nothing), and x_image alone sees two bases of which it cannot tell the one that counts. With all
three modalities the product reaches .77 of the possible AUROC - .5 (mean over the findings), the best single modality
.57; on records of which some lack a modality, the product reaches .78. A test computes these.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from training.cohorts.phantom.image.anatomy import LUNG_DEPTH, SOFT_DEPTH, Habitus, Thorax, heart_chord
from training.cohorts.phantom.image.lesions import VISIBLE, ZONES, Lesions, Look, Sites, air, consolidation, fluid
from training.cohorts.phantom.image.phantom import ImagePhantom
from training.cohorts.phantom.observations.phantom import ObservationsPhantom
from training.cohorts.phantom.tables import table
from training.cohorts.phantom.text.note import Wording
from training.cohorts.phantom.text.phantom import TextPhantom

_EVIDENCE, _REPORT = "interaction/evidence", "interaction/report"
_HEART = 1.0
"""How wide the heart is, times the usual: it says nothing here."""
_BASE, _LINE = 0.8, 0.85
"""What the evidence of a base and of the pleural line is multiplied with to be drawn: a base must not hide the opacity
above it, and the line's evidence reaches further than what can be drawn."""


def interaction_look(t: Thorax, evidence: npt.NDArray[np.float64], sites: Sites, habitus: Habitus) -> Lesions:
    """An opacity in one zone, a shadow at each base, and a line with lucency at one apex."""
    opaque, left, right, lined = evidence.tolist()
    heart = heart_chord(t.frame, _HEART, habitus)
    lung = t.aerated * (1 - heart)
    opacity = consolidation(t, opaque, sites)
    bases = [fluid(t, _BASE * share, side, habitus) for share, side in ((left, 1), (right, -1))]
    other_side = int(-np.sign(ZONES[sites.zone][0]))  # free air would swallow the opacity
    gas, line = air(t, _LINE * lined, replace(sites, pneumothorax_side=other_side))
    replaced = np.float32(SOFT_DEPTH - LUNG_DEPTH) * t.body
    shown = np.stack(
        [
            lung * opacity > VISIBLE,
            *(lung * base * replaced > VISIBLE for base in bases),
            lung * gas * np.float32(LUNG_DEPTH) + line > VISIBLE,
        ]
    )
    return Lesions(heart, opacity, np.zeros_like(opacity), bases[0] + bases[1], gas, line, shown)


class InteractionImage(ImagePhantom):
    """One channel for each kind of shadow; the oracle reads the evidence as drawn."""

    shifts = table(_EVIDENCE)["image"]
    report_table = _REPORT
    truth = ""

    @property
    def look(self) -> Look:
        return interaction_look


class InteractionText(TextPhantom):
    """Fever, and what the rest has to be read in the light of; the oracle reads the grades."""

    evidence_table = _EVIDENCE
    wording = Wording.stored(_EVIDENCE, "interaction/phrases")
    truth = ""


class InteractionObservations(ObservationsPhantom):
    """The same variables as ordinarily, of which four say something."""

    evidence_table = _EVIDENCE
    truth = ""
