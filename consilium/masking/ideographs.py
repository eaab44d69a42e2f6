"""Known names in scripts that set no blanks between words: Chinese, Japanese, Korean, Thai and their neighbours."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from consilium.masking.words import LISTS

_HAN = r"\u3005\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_UNSPACED = re.compile(rf"[{_HAN}\u3040-\u30ff\uff66-\uff9f\uac00-\ud7af\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
_SEPARATORS = " \u3000・·･,，^=\t"

HAN_TITLE = re.compile(
    r"\s?(?:先生|女士|小姐|太太|夫人|某|氏|医生|醫生|大夫|医师|醫師|主任|教授|护士|護士|护士长|师傅|阿姨|同志|患者|さん|さま|様|殿|君|くん|ちゃん|氏名|婆婆|爷爷|奶奶|伯伯)"
)
_HANGUL_TITLE = re.compile(r"\s?(?:씨|님|환자|선생|교수|군|양|여사|의사|간호사|원장|과장|할머니|할아버지)")
_ELDER = "老小阿"


@lru_cache(maxsize=8192)
def _fold(character: str) -> str:
    """Full and half widths alike, katakana as hiragana, without case."""
    if "\uac00" <= character <= "\ud7af":
        return character
    folded = unicodedata.normalize("NFKD", character).casefold()
    return "".join(chr(ord(c) - 0x60) if "\u30a1" <= c <= "\u30f6" else c for c in folded)


def _folded(text: str) -> str:
    return "".join(map(_fold, text))


@dataclass(slots=True)
class Phrases:
    """What to look for, folded.

    Attributes
    ----------
    anywhere : set of str
        Whole names, and parts that are long enough to be nothing else.
    apart : set of str
        Parts that go on neither side.
    titled : set of str
        Family names of one letter or syllable, which only a title tells from a word.
    """

    anywhere: set[str] = field(default_factory=set)
    apart: set[str] = field(default_factory=set)
    titled: set[str] = field(default_factory=set)

    def add(self, name: str) -> bool:
        """Add the parts of `name`; False where its script sets blanks."""
        if not _UNSPACED.search(name):
            return False
        parts = [_folded(part) for part in re.split(rf"[{_SEPARATORS}]+", name.strip()) if part]
        if "^" not in name and len(parts) == 1:
            parts = _split(parts[0])
        parts = [part for part in parts if _UNSPACED.search(part)][:3]
        if len(parts) > 1:
            self.anywhere |= {"".join(parts), "".join(reversed(parts))}
        for number, part in enumerate(parts):
            self._add_part(part, is_family=number == 0 and len(parts) > 1)
        return True

    def _add_part(self, part: str, *, is_family: bool) -> None:
        han = all("\u3400" <= c <= "\u9fff" or c == "々" or "\uf900" <= c <= "\ufaff" for c in part)
        if len(part) == 1:
            if is_family:
                self.titled.add(part)
        elif han or len(part) >= 4:
            self.anywhere.add(part)
        else:
            self.apart.add(part)

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        """Start and end of each in `text`, whatever blanks and points lie between its letters."""
        if not (self.anywhere or self.apart or self.titled) or not _UNSPACED.search(text):
            return
        letters, places = [], []
        for i, character in enumerate(text):
            if character not in _SEPARATORS:
                folded = _fold(character)
                letters.append(folded)
                places += [i] * len(folded)
        flat = "".join(letters)
        for phrase in self.anywhere | self.apart | self.titled:
            at = flat.find(phrase)
            while at >= 0:
                start, end = places[at], places[at + len(phrase) - 1] + 1
                if end - start <= 2 * len(phrase) + 2 and self._stands(text, phrase, start, end):
                    yield start, end
                at = flat.find(phrase, at + len(phrase))

    def _stands(self, text: str, phrase: str, start: int, end: int) -> bool:
        if phrase in self.anywhere:
            return True
        before, after = text[max(0, start - 1) : start], text[end : end + 1]
        title = (_HANGUL_TITLE if _is_hangul(phrase) else HAN_TITLE).match(text, end)
        if phrase in self.titled:
            return bool(title) or (before != "" and before in _ELDER)
        if title:
            return True
        # Korean sets its particles after a name, and a blank before it.
        return not _same_script(phrase[0], before) and (_is_hangul(phrase) or not _same_script(phrase[-1], after))


def _is_hangul(text: str) -> bool:
    return "\uac00" <= text[0] <= "\ud7af"


def _same_script(one: str, other: str) -> bool:
    def script(character: str) -> str:
        return unicodedata.name(_fold(character)[:1], "").partition(" ")[0]

    return other != "" and other.isalpha() and script(one) == script(other)


def _split(name: str) -> list[str]:
    """Family and given name of a name that is written as one."""
    compound = next((c for c in LISTS["compound_surnames"] if name.startswith(c)), None)
    if compound and len(name) > len(compound):
        return [compound, name[len(compound) :]]
    if _is_hangul(name) and 2 <= len(name) <= 4:
        return [name[0], name[1:]]
    if name[0] in LISTS["surnames"] and 2 <= len(name) <= 3:
        return [name[0], name[1:]]
    if len(name) == 4 and all("\u3400" <= c <= "\u9fff" or c == "々" for c in name):
        return [name[:2], name[2:]]
    return [name]
