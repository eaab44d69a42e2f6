"""Learning without labels: from a cohort's studies to registered encoders. Open `pretrain` first.

In: a recipe with a section ``pretraining`` and a cohort. Out: encoders that recipes name as weights, with a card, an
audit against shortcuts, and what they can do with no or few labels (`zero_shot`, `few_shot`).
"""
