"""Forms in which texts are compared: folded, without marks that are not seen, as words."""

from __future__ import annotations

import unicodedata

#: Typographic apostrophes become plain ones, and characters without width nothing.
_PLAIN = dict.fromkeys(map(ord, "\u2018\u2019\u201b\u02bc"), "'") | dict.fromkeys(
    map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff")
)


def fold(text: str) -> str:
    """Unicode NFKC and case folding.

    >>> fold("Stra\u00dfe \ufb01")
    'strasse fi'
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def plain(folded: str) -> str:
    """`folded` with plain apostrophes and without characters that have no width."""
    return unicodedata.normalize("NFKC", folded.translate(_PLAIN))


def transcript_words(text: str) -> list[str]:
    """The words of a transcript: folded, without punctuation, combining marks kept.

    A word is a run of letters, marks and digits, with apostrophes inside. A number in digits is
    another word than the same number in letters. A script without spaces makes one word of a
    sentence, of which a word error rate says little.

    Example:
        >>> transcript_words("I'm sorry, that\u2019s NOT 42!")
        ["i'm", 'sorry', "that's", 'not', '42']
        >>> transcript_words("\u0928\u092e\u0938\u094d\u0924\u0947") == [
        ...     "\u0928\u092e\u0938\u094d\u0924\u0947"
        ... ]
        True
    """
    kept = (
        sign if sign == "'" or unicodedata.category(sign)[0] in "LMN" else " "
        for sign in plain(fold(text))
    )
    words = (word.strip("'") for word in "".join(kept).split())
    return [word for word in words if word]
