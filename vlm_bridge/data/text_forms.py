"""Forms in which texts are compared: folded, without unseen marks, as words, as answers."""

from __future__ import annotations

import re
import unicodedata

#: Typographic apostrophes become plain ones, and characters without width nothing.
_PLAIN = dict.fromkeys(map(ord, "\u2018\u2019\u201b\u02bc"), "'") | dict.fromkeys(
    map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff")
)
#: Marks that may end an answer, and pairs that may enclose one.
_CLOSING = ".,;:!?\u2026\u3002\uff0c\uff0e\u3001\uff01\uff1f"
_PAIRS = ("''", '""', "``", "()", "[]", "\u201c\u201d", "\u00ab\u00bb")
#: An article before a word; "a" only before two letters, since it may be a letter itself.
_ARTICLE = re.compile(r"\b(?:the|an|a(?= [^\W\d_]{2})) (?=\S)")


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


def normalise(text: str) -> str:
    """The form in which an answer is compared with a label.

    Unicode NFKC and case folding; typographic apostrophes become plain ones, and characters without
    width (such as U+200B and U+FEFF) are removed; white space becomes single spaces; full stops,
    commas and other closing marks at the end and quotes or brackets around the whole are removed;
    so are the articles a, an, the before another word. Marks inside, signs, units and a leading
    point stay.
    A text that would become empty keeps its last form. An answer that contains the label in a
    sentence is another answer.

    Example:
        >>> [normalise(text) for text in ("Black.", " The  Dog ", "'red'", "Stra\u00dfe")]
        ['black', 'dog', 'red', 'strasse']
        >>> [normalise(text) for text in ("A", "(a)", "vitamin A", "-5", ".5", "C++", "...")]
        ['a', 'a', 'vitamin a', '-5', '.5', 'c++', '...']
        >>> normalise("don\u2019t\u200b") == normalise("don't")
        True
        >>> normalise("The answer is yes.") == normalise("yes")
        False
    """
    folded = fold(text)
    words = " ".join(plain(folded).split()) or " ".join(folded.split())
    while (shorter := _without_marks(words)) not in ("", words):
        words = shorter
    return _ARTICLE.sub("", words)


def _without_marks(text: str) -> str:
    """`text` without closing marks at its end, or without a pair of marks around it."""
    closed = text.rstrip(_CLOSING + " ")
    if closed != text:
        return closed
    enclosed = text[:1] + text[-1:] in _PAIRS and not {text[0], text[-1]} & set(text[1:-1])
    return text[1:-1].strip() if enclosed and len(text) > 1 else text
