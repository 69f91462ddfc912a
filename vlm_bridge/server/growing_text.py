"""The text of an answer that grows token by token, in pieces that are never taken back."""

from __future__ import annotations

from typing import Any

from vlm_bridge.errors import BridgeError

#: What a tokenizer decodes the first bytes of an unfinished letter to.
_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


class GrowingText:
    """Pieces of one answer; joined, they are the whole answer.

    A piece ends before the last word, since the next token may still change it; what follows the
    last white space comes with the next word or with the end.

    Args:
        tokenizer: of the model.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._sent = ""

    def add(self, token: int) -> str:
        """The piece that is certain after one more token; mostly empty."""
        self._ids.append(token)
        text = self._decoded()
        end = max((place for place, letter in enumerate(text) if letter.isspace()), default=0)
        certain = text[:end].rstrip()
        if _UNFINISHED in certain or len(certain) <= len(self._sent):
            return ""
        return self._piece(certain)

    def rest(self, whole: str) -> str:
        """The last piece of an answer that is `whole`.

        Raises:
            BridgeError: the tokenizer changed letters that were sent.
        """
        return self._piece(whole)

    def _decoded(self) -> str:
        text: str = self._tokenizer.decode(self._ids, skip_special_tokens=True)
        return text.strip()

    def _piece(self, text: str) -> str:
        if not text.startswith(self._sent):
            raise BridgeError(
                "the tokenizer changed a word of the answer after it was sent; ask again without "
                "'stream'"
            )
        piece, self._sent = text[len(self._sent) :], text
        return piece
