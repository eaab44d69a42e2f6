"""Batch → tokens: one encoder per modality, each by name from its own ecosystem.

What comes out is always `Tokens`, of one width and with a mask; fusion never knows what a token was. Open `tokens.py`
first, then `image.py`, `text.py` or `observations.py`.
"""

from consilium.encoders.tokens import Dense, Tokens

__all__ = ["Dense", "Tokens"]
