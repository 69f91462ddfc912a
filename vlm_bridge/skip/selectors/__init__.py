"""Selectors that choose the tokens that pruning keeps: from states, positions, given scores."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from vlm_bridge.plan.selectors import read_selector
from vlm_bridge.skip.pass_state import PassState
from vlm_bridge.skip.selectors.cdpruner import cdpruner_places
from vlm_bridge.skip.selectors.dart import dart_places
from vlm_bridge.skip.selectors.divprune import divprune_places
from vlm_bridge.skip.selectors.places import random_places, uniform_places
from vlm_bridge.skip.selectors.visionzip import received_in, visionzip_places

#: (states (batch, t, width), pass, stage) -> (batch, t) bool, the modality positions that stay.
Choose = Callable[[Tensor, PassState, int], Tensor]
#: (features (n, width) of one prompt's modality tokens that are there, text (m, width) without
#: padding, how many stay, seed) -> (k,) places among the n.
_Pick = Callable[[Tensor, Tensor, int, int], Tensor]
_PICKS: dict[str, _Pick] = {
    "random": random_places,
    "uniform": uniform_places,
    "divprune": divprune_places,
    "dart": dart_places,
    "cdpruner": cdpruner_places,
    "visionzip": visionzip_places,
}


def choose_by(words: str) -> Choose:
    """The choice of the selector that `words` name, prompt by prompt."""
    selector, seed = read_selector(words)
    choose = partial(_chosen, _PICKS[selector.name], seed)
    if selector.reads != "encoder":
        return choose
    return lambda _, now, stage: choose(received_in(now), now, stage)


@torch.no_grad()
def _chosen(pick: _Pick, seed: int, states: Tensor, now: PassState, stage: int) -> Tensor:
    kept = torch.zeros_like(now.flags, device=states.device)
    there, text = now.rows("open", states.device, stage), now.rows("words", states.device)
    counts = now.stages[stage - 1].counts if stage else now.counts
    sizes = zip(counts, now.stages[stage].counts, now.word_counts, strict=True)
    for number, (count, quota, n_words) in enumerate(sizes):
        if not count:
            continue
        places = there.index[number, len(there) - count :]
        words = text.index[number, len(text) - n_words :]
        features = states[number, places].float()
        chosen = pick(features, states[number, words].float(), quota, seed)
        kept[number, places[chosen]] = True
    return kept
