"""Several reference answers to one question, and the one that stands for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from vlm_bridge.errors import BridgeError, shown


def as_answers(answers: Any) -> tuple[Any, ...]:
    """The reference answers of an item as a tuple; a single text is refused.

    Example:
        >>> as_answers(["yes", "no"])
        ('yes', 'no')
    """
    if isinstance(answers, str | bytes) or not isinstance(answers, Sequence):
        raise BridgeError(f"the answers of an item are a list of texts, got {shown(answers)}")
    return tuple(answers)


def answer_among(answer: str | None, answers: Sequence[str], name: str) -> str | None:
    """The answer of an item: as given, else the most frequent reference, the first of equals.

    Args:
        answer: the answer that was given, or None.
        answers: all reference answers, or none.
        name: of the item, for messages.

    Raises:
        BridgeError: a blank reference, or an answer that is none of the references.

    Example:
        >>> answer_among(None, ["red", "blue", "blue"], "a.png")
        'blue'
    """
    for place, each in enumerate(answers):
        if not each.strip():
            raise BridgeError(f"reference answer {place} of {name} is blank; leave it out")
    if not answers:
        return answer
    if answer is None:
        return Counter(answers).most_common(1)[0][0]
    if answer not in answers:
        raise BridgeError(
            f"the answer {shown(answer)} of {name} is none of its {len(answers)} 'answers'; put it "
            "among them"
        )
    return answer
