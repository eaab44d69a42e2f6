"""ECGs, where a model is trained."""

from __future__ import annotations

from collections.abc import Sequence

from consilium.configuration.recipe import Recipe
from training.modalities.signal_training import SignalTraining


class EcgTraining(SignalTraining):
    """As any signal, and what becomes of wrong gains."""

    one, several = "ECG", "ECGs"

    def card_sentences(self, recipe: Recipe) -> Sequence[str]:
        section = recipe.modalities[self.name]
        rule = {
            "scaled": "are read at a common size, without their voltages, and the study is referred",
            "microvolts": "are read by their integers as microvolts",
        }
        wrong = f"ECGs whose gains are wrong {rule[section.wrong_gains]}."
        return (f"Of an ECG it reads the middle {section.seconds} s. {wrong}",)
