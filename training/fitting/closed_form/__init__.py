"""A fit without gradient descent, for tens to hundreds of patients; open `nested` first.

In come features of each modality, from encoders that are not trained; out comes a linear model: features are
standardised and projected (`linear_head`), each modality has a regularised logistic head, and their logits are stacked
(`stacking`) on out-of-fold answers of patient-grouped folds. Nothing here knows torch; `fit` writes the numbers into a
`DiagnosisModel`.
"""
