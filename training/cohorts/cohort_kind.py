"""Cohort kinds: how a folder of one layout is read, and what else is known of it, declared in one place.

A cohort of any kind can be trained on. Some kinds offer more: an oracle (the best possible answer from every subset of
modalities), the truth about its evidence (for measuring explanations), or a renderer (which draws a study once more
under other circumstances). Who needs one of these asks for it and goes without where there is none.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from consilium.configuration.recipe_errors import rule_of
from consilium.domain.errors import RecipeError
from consilium.system.installed import load
from training.cohorts.cohort import Cohort


class CohortOptions(BaseModel):
    """Keys that a recipe's section ``cohort`` may have beside ``kind``; a kind with options derives its own class."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Oracle(Protocol):
    """The best possible answer from every subset of modalities: what no model can beat.

    Attributes
    ----------
    study_ids : str [N]
    posteriors : mapping of subset name to float64 [N, F]
        P(finding | what each study has of the subset's modalities); may be computed where it is asked for.
    passed : mapping of subset name to float64 [N, S]
        Likewise of passing each step of the cohort's targets and those before; empty where it is not known.
    """

    @property
    def study_ids(self) -> Sequence[str] | npt.NDArray[np.str_]: ...

    @property
    def posteriors(self) -> Mapping[str, npt.NDArray[np.float64]]: ...

    @property
    def passed(self) -> Mapping[str, npt.NDArray[np.float64]]: ...


class Pairs(Protocol):
    """How well records of two modalities can be known to be of one study: what no retrieval can beat."""

    def scores(
        self, study_ids: Sequence[str], one: str, other: str, sections: Mapping[str, Any]
    ) -> npt.NDArray[np.float64]:
        """Of the record `one` of each of N studies with the record `other` of each, [N, N]; more is likelier.

        Parameters
        ----------
        sections : mapping of modality to its section of the recipe
            By which a model reads the records.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortKind:
    """One layout of cohort folders.

    Attributes
    ----------
    name : str
        As recipes have it in ``cohort.kind``.
    read : str
        Reference of ``(root, options, mask_notes) -> Cohort``.
    recognises : callable
        Whether a folder has this layout, by the files in it.
    options : type of CohortOptions
    oracle, pairs, truth, renderer : str or None
        References of ``(root) -> ...``; None: this kind has none. An oracle is an `Oracle`, pairs are `Pairs`,
        a truth a `training.evaluation.faithfulness.truth.Truth`, a renderer a
        `training.evaluation.out_of_distribution.kinds.Renderer`.
    """

    name: str
    read: str
    recognises: Callable[[Path], bool]
    options: type[CohortOptions] = CohortOptions
    oracle: str | None = None
    pairs: str | None = None
    truth: str | None = None
    renderer: str | None = None

    def read_cohort(self, root: Path, options: Mapping[str, Any], *, mask_notes: bool) -> Cohort:
        """The cohort in the folder `root`; `options` are checked.

        Raises
        ------
        RecipeError
            For an option that this kind does not have, or a value that breaks its rule.
        CohortError
            With every problem of the folder.
        """
        cohort: Cohort = load(self.read)(root, self.checked(options), mask_notes)
        return cohort

    def checked(self, options: Mapping[str, Any]) -> CohortOptions:
        """`options` as this kind's class; the first problem is a `RecipeError`."""
        try:
            return self.options.model_validate(dict(options))
        except ValidationError as error:
            raise self._recipe_error(error) from None

    def load_oracle(self, root: Path) -> Oracle | None:
        """The oracle of the cohort in `root`; None where this kind has none."""
        oracle: Oracle | None = _called(self.oracle, root)
        return oracle

    def load_pairs(self, root: Path) -> Pairs | None:
        """The best possible scores of pairs of records in `root`; None where this kind has none."""
        pairs: Pairs | None = _called(self.pairs, root)
        return pairs

    def load_truth(self, root: Path) -> Any:
        """The truth of the cohort in `root`; None where this kind has none."""
        return _called(self.truth, root)

    def load_renderer(self, root: Path) -> Any:
        """The renderer of the cohort in `root`; None where this kind has none."""
        return _called(self.renderer, root)

    def _recipe_error(self, error: ValidationError) -> RecipeError:
        first = error.errors(include_url=False)[0]
        field = ".".join(["cohort", *(str(part) for part in first["loc"])])
        if first["type"] != "extra_forbidden":
            return RecipeError(field, first["input"], rule_of(first["type"], first["msg"]))
        known = sorted(self.options.model_fields)
        if not known:
            return RecipeError(field, first["input"], f"is no known key; the cohort kind {self.name} has no options")
        nearest = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.0)
        return RecipeError(field, first["input"], f"is no known key; the nearest is {nearest[0]!r}")


def _called(reference: str | None, root: Path) -> Any:
    return None if reference is None else load(reference)(root)
