"""The ways to choose the modality tokens that token pruning keeps: one record per selector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vlm_bridge.errors import BridgeError, among, shown


@dataclass(frozen=True)
class Selector:
    """A way to choose tokens.

    Attributes:
        name: its name in plans.
        reads: `attention` of the layer before the first pruned one, which then exists; `states`,
            the input of the first pruned layer, which may be layer 0; attention in the vision
            `encoder`, so that it may be layer 0, too; `nothing` but positions.
        source: where it comes from.
        deviation: how it differs from there.
    """

    name: str
    reads: Literal["attention", "states", "encoder", "nothing"]
    source: str
    deviation: str


_RECORDS = (
    Selector(
        "fastv",
        reads="attention",
        source="Chen et al. 2024, arXiv:2403.06764: attention of the last token, mean over heads",
        deviation="none in the score",
    ),
    Selector(
        "sparsevlm",
        reads="attention",
        source="Zhang et al. 2024, arXiv:2410.04417: attention of the words relevant to the image",
        deviation=(
            "one pruning to a fixed share, no rank and no recycling (clustering) of what goes; "
            "relevance by the input of the scored layer, where the authors take the embeddings: "
            "none in the score at after=1"
        ),
    ),
    Selector(
        "random",
        reads="nothing",
        source="the control of Peng et al. 2025 (UniPruneBench), arXiv:2511.02650",
        deviation="`random:7` draws with seed 7; images with as many tokens keep the same places",
    ),
    Selector(
        "uniform",
        reads="nothing",
        source="a control: tokens at even distances in the order of the prompt",
        deviation="none",
    ),
    Selector(
        "divprune",
        reads="states",
        source="Alvar et al. 2025, arXiv:2503.02175: greedy max-min of the cosine distance",
        deviation="none at after=0, which is its place; later it reads that layer's input",
    ),
    Selector(
        "dart",
        reads="states",
        source="Wen et al. 2025, arXiv:2502.11494: the tokens least similar to pivots",
        deviation="pivots by the L1 norm of the layer's input, where the authors take that of keys",
    ),
    Selector(
        "cdpruner",
        reads="states",
        source="Zhang et al. 2025, arXiv:2506.10967: a determinantal process given the question",
        deviation="relevance by the decoder's states of the text, where the authors take CLIP's",
    ),
    Selector(
        "visionzip",
        reads="encoder",
        source=(
            "Yang et al. 2024, arXiv:2412.04467: attention in the vision encoder's second-to-last "
            "layer, of its class token, or of all tokens where it has none"
        ),
        deviation=(
            "the authors' dominant tokens only, without the contextual tokens that they merge from "
            "the rest: a selector changes no token; none in the score, nor in the place at after=0"
        ),
    ),
)
#: Every selector by name.
SELECTORS: dict[str, Selector] = {selector.name: selector for selector in _RECORDS}
#: The selector of a plan that names none.
FASTV = "fastv"


def read_selector(words: str) -> tuple[Selector, int]:
    """The selector that `words` name, and its seed: `random:7`; without a seed it is 0.

    Raises:
        BridgeError: no such selector, or a seed that is no whole number or not used.

    Example:
        >>> read_selector("random:7")[1]
        7
        >>> read_selector("fastv:7")
        Traceback (most recent call last):
        vlm_bridge.errors.BridgeError: fastv draws nothing, so it takes no seed; got 'fastv:7'
    """
    name, colon, seed = words.partition(":")
    if name not in SELECTORS:
        raise BridgeError(f"unknown selector {shown(name)}; {among(name, SELECTORS)}")
    if colon and name != "random":
        raise BridgeError(f"{name} draws nothing, so it takes no seed; got {shown(words)}")
    if colon and not (seed.isascii() and seed.isdigit() and len(seed) < 10):
        raise BridgeError(f"a seed is a whole number, as in 'random:7'; got {shown(words)}")
    return SELECTORS[name], int(seed or 0)
