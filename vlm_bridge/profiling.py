"""Profile a VLM on unlabelled questions: how redundant is each layer, for which tokens."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from estimators import MeanAccumulator, PairAccumulator, PairRows, Profile
from vlm_bridge.answers import track_batches
from vlm_bridge.capture import capturing_attention, capturing_states
from vlm_bridge.data import Item, items_hash
from vlm_bridge.errors import BridgeError
from vlm_bridge.layout import TOKEN_GROUPS, find_layout
from vlm_bridge.prompts import Batch
from vlm_bridge.vlm import VLM

#: Groups a profile reports; padding is nobody's state.
PROFILED = tuple(group for group in TOKEN_GROUPS if group != "pad")
#: Name of the attention mass on visual keys in a `Profile`.
VAR = "var"


def profile(vlm: VLM, items: Iterable[Item], *, size: int = 16) -> Profile:
    """Distance between adjacent states, per layer and token group, from one forward pass.

    Labels are not read. Everything is reduced as it streams by, so memory does not grow
    with the number of items; intervals treat the image as the independent unit.

    Per layer and group: cosine distance `1 - cos(h_l, h_{l+1})` (mean, quantiles, tail
    probabilities), angular distance, norm ratio, relative norm of the update; and VAR, the
    attention mass a query that can see an image puts on visual keys, mean over heads.

    Args:
        vlm: the model.
        items: unlabelled questions; an image's questions are kept in one batch.
        size: batch size.

    Raises:
        BridgeError: there are no items, or a state has no direction.

    Example:
        >>> profile(vlm, items).values("image", "cosine_distance")  # doctest: +SKIP
        array([0.74, 0.21, ...])
    """
    items = list(items)
    reducer = _Reducer(vlm.layout.n_layers)
    title = f"profile of {vlm.name}"
    with (
        torch.no_grad(),
        capturing_states(vlm, reducer.on_states),
        capturing_attention(vlm, reducer.on_attention),
    ):
        for batch in track_batches(vlm, items, size=size, title=title):
            reducer.begin(vlm, batch)
            vlm.model(**batch.inputs, use_cache=False, logits_to_keep=1)
    return Profile.build(
        vlm.name,
        reducer.pairs,
        {group: {VAR: found} for group, found in reducer.attention.items()},
        n_images=len({item.group for item in items}),
        data_hash=items_hash(items),
    )


def random_copy(vlm: VLM, *, seed: int = 0) -> VLM:
    """The same architecture with freshly initialised weights: the null of every profile.

    On a random network the cosine between a layer's input and output already rises with
    depth, so a claim of redundancy must beat this copy.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = type(vlm.model)(vlm.model.config)
        table = model.get_input_embeddings()
        if getattr(table, "padding_idx", None) is not None:
            # transformers zeroes this row, but chat prompts use the token (often end-of-turn),
            # and a zero state has no direction.
            std = float(table.weight.detach().std())
            torch.nn.init.normal_(table.weight.data[table.padding_idx], std=std)
    model = model.to(device=vlm.device, dtype=vlm.model.dtype).eval()
    layout = find_layout(model, vlm.layout.special_ids)
    return VLM(f"{vlm.name} (random weights)", model, vlm.processor, layout)


class _Reducer:
    """Turns what the hooks hand over into per-layer, per-group sums."""

    def __init__(self, n_layers: int) -> None:
        self.pairs = {g: [PairAccumulator() for _ in range(n_layers)] for g in PROFILED}
        asking = [group for group in PROFILED if group != "image"]
        self.attention = {g: [MeanAccumulator() for _ in range(n_layers)] for g in asking}

    def begin(self, vlm: VLM, batch: Batch) -> None:
        ids = batch.inputs["input_ids"]
        groups = vlm.layout.token_groups(ids, batch.inputs.get("attention_mask"))
        names = {name: i for i, name in enumerate(dict.fromkeys(i.group for i in batch.items))}
        clusters = torch.tensor([names[item.group] for item in batch.items])
        self._clusters = clusters[:, None].expand(ids.shape).numpy()
        self._masks = {g: (groups == TOKEN_GROUPS.index(g)).cpu().numpy() for g in PROFILED}
        self._vision = vlm.layout.vision_flags(ids)
        self._sees_vision = (self._vision.cumsum(1) > 0).cpu().numpy()

    def on_states(self, layer: int, before: Tensor, after: Tensor) -> None:
        x, y = before.float(), after.float()
        norm_x, norm_y = x.norm(dim=-1), y.norm(dim=-1)
        cosine = 1 - ((x * y).sum(-1) / (norm_x * norm_y)).clamp(-1, 1)
        rows = torch.stack([cosine, norm_y / norm_x, (y - x).norm(dim=-1) / norm_x])
        found = rows.cpu().numpy().astype(np.float64)
        for group, mask in self._masks.items():
            if mask.any():
                part = [values[mask] for values in found]
                if not all(np.isfinite(values).all() for values in part):
                    raise BridgeError(
                        f"layer {layer}: a state of the {group} tokens is zero or not finite, so "
                        "its direction is undefined"
                    )
                self.pairs[group][layer].update(PairRows(*part), self._clusters[mask])

    def on_attention(self, layer: int, probabilities: Tensor) -> None:
        on_vision = probabilities * self._vision[:, None, None, :]
        mass = on_vision.sum(-1).mean(1).cpu().numpy().astype(np.float64)
        for group, per_layer in self.attention.items():
            mask = self._masks[group] & self._sees_vision
            if mask.any():
                per_layer[layer].update(mass[mask], self._clusters[mask])
