"""Files of sounds: bytes that may be hostile, as channels of samples."""
