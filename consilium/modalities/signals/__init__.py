"""What modalities of signals share: resampling, and how signals are explained, drawn and played. No modality itself."""
