"""The model with the states of its modality tokens taken from another image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vlm_bridge.data import Item, about_other, unit_word
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.first_token import first_token, full_first_token
from vlm_bridge.model.prompts import Batch, collate
from vlm_bridge.model.vlm import VLM
from vlm_bridge.rules.measure import Floats
from vlm_bridge.rules.measure.passes import check_reads_prompt, divergence, image_means, token_masks
from vlm_bridge.skip.resume import starting_at


def vision_swap_kl(vlm: VLM, items: Sequence[Item], *, batch_size: int) -> Floats:
    """(L - 1,) mean `KL(p_swapped || p_full)` over images, nats, of the depths 1, ..., L - 1.

    At depth b the modality tokens of the input of layer b have the states that they have in the
    same question about the next image; all other tokens keep theirs. Features that a model adds
    between layers (DeepStack) stay those of the question's own image.
    """
    check_reads_prompt(vlm, "swaps of vision states")
    others = about_next_image(items)

    def of_batch(batch: Batch) -> list[Tensor]:
        twin = _twin(vlm, batch, others)
        full, states = full_first_token(vlm, batch)
        _, swapped = full_first_token(vlm, twin)
        vision = token_masks(vlm, batch)[0][..., None]
        divergences: list[Tensor] = []
        for depth in range(1, vlm.layout.n_layers):
            own, other = states[depth - 1], swapped[depth - 1]
            mixed = torch.where(vision.to(own.device), other, own)
            with starting_at(vlm, depth, {depth - 1: mixed}):
                divergences.append(divergence(first_token(vlm, batch), full))
        return divergences

    return image_means(vlm, items, batch_size, "vision swapped", of_batch)


def about_next_image(items: Sequence[Item]) -> list[Item]:
    """Every question about the next image of its kind; the last one gets the first.

    Raises:
        BridgeError: there is one image only.
    """
    units: dict[tuple[str, ...], dict[str, Item]] = {}
    for item in items:
        units.setdefault(item.kinds, {}).setdefault(item.cluster, item)
    following: dict[str, Item] = {}
    for firsts in units.values():
        if len(firsts) < 2:
            raise BridgeError(
                f"a swap of vision states needs at least two {unit_word(items)}, and "
                f"{next(iter(firsts))} is the only one; give questions about more"
            )
        names = list(firsts)
        following |= {a: firsts[b] for a, b in zip(names, [*names[1:], names[0]], strict=True)}
    return [about_other(item, other) for item in items for other in [following[item.cluster]]]


def vision_swap_cost(n_layers: int) -> float:
    """Forward-pass equivalents beside the full pass: the other image's, and a run of every depth.

    >>> vision_swap_cost(4)
    2.5
    """
    return 1.0 + sum(n_layers - depth for depth in range(1, n_layers)) / n_layers


def _twin(vlm: VLM, batch: Batch, others: Sequence[Item]) -> Batch:
    """The same questions about the other images; refused where their tokens are not as many."""
    twin = collate(vlm, others, batch.places)
    own, other = batch.inputs["input_ids"], twin.inputs["input_ids"]
    if not torch.equal(own, other):
        counts = [token_masks(vlm, each)[0].sum(1).tolist() for each in (batch, twin)]
        row = next((i for i, (a, b) in enumerate(zip(*counts, strict=True)) if a != b), 0)
        raise BridgeError(
            f"'{batch.names[row]}' has {counts[0][row]} {vlm.layout.modality} tokens and "
            f"'{twin.names[row]}' has {counts[1][row]}, so that their states cannot be swapped; "
            f"give {unit_word(batch.items)} of one size"
        )
    return twin
