"""An item of a whole dialogue: its last question and, where known, the answer to it."""

from __future__ import annotations

from collections.abc import Sequence

from vlm_bridge.data.items import Item
from vlm_bridge.data.shapes.place import Place
from vlm_bridge.data.turns import Turn


def item_of_turns(
    turns: Sequence[Turn], place: Place, *, answer: str | None = None, cluster: str = ""
) -> Item:
    """The last turn of the user is the question, and the assistant's after it the answer.

    Raises:
        BridgeError: no turn of the user last, or before the last of the assistant.
    """
    asked = list(turns)
    if asked and asked[-1].role == "assistant":
        said = "".join(str(part) for part in asked.pop().parts)
        if answer is not None and answer != said:
            raise place.refusal("'answer' is another than the last turn of the assistant")
        answer = said
    if not asked or asked[-1].role != "user":
        raise place.refusal("there is no turn of the user to answer")
    return Item.of(*asked[-1].parts, answer=answer, cluster=cluster, turns=asked[:-1])
