"""Masking: the text of a note becomes the text that a model reads, without names, dates, identifiers and addresses.

Comes in: a note's text, and the names that are known of its patient. Goes out: `MaskedText`, in which ``[name]``,
``[date]``, ``[id]``, ``[phone]``, ``[email]``, ``[url]`` and ``[address]`` stand for what was there, with a map back to
the text that was sent. The one preprocessing path calls this for every study, of a cohort or of a request.

Own rules, not a library: Presidio and scrubadub find names with a language model that no package registry brings, and
mask numbers by form alone; python-stdnum is LGPL; dateparser and phonenumbers take laboratory values for dates and
telephone numbers. Open `spans` first; `known_names` looks for given names, the others for what form and context show.
"""

from consilium.masking.spans import PLACEHOLDERS, VERSION, MaskedText, Span, mask_text

__all__ = ["PLACEHOLDERS", "VERSION", "MaskedText", "Span", "mask_text"]
