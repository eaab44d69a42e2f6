"""The two colours of evidence, on every page and picture.

Orange is evidence for a finding, blue against it; told apart also by people with a colour vision deficiency.
"""

FOR, AGAINST = (217, 84, 15), (30, 110, 200)
"""Red, green and blue, 0 to 255."""
