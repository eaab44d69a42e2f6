"""What a diagnosis is made of.

Records become a `Study` (`consilium.ingest`), a `Study` a `Batch` (`consilium.preprocessing.collate`), a `Batch` tokens
(`consilium.modalities`), tokens one joint state (`consilium.network.fusion`), the state logits
(`consilium.network.diagnosis_model`), logits a `Diagnosis` (`consilium.calibration`).
`consilium.inference.diagnostician` walks the whole way; open it first.
"""

__version__ = "0.1.0"
