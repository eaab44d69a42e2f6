"""What a diagnosis is made of.

Records become a `Study` (`consilium.ingest`), a `Study` a `Batch` (`consilium.collate`), a `Batch` tokens
(`consilium.encoders`), tokens one joint state (`consilium.fusion`), the state logits (`consilium.model`), logits a
`Diagnosis` (`consilium.calibration`). `consilium.diagnostician` walks the whole way; open it first.
"""

__version__ = "0.1.0"
