"""How often a skipped language model expects the same next token in a text as the full model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from estimators import Estimate, clustered_mean
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.given import check_items, check_vlm, given_plans
from vlm_bridge.model.prompts import Batch
from vlm_bridge.model.run_batches import is_list_of, run_batches, run_key
from vlm_bridge.model.vlm import VLM
from vlm_bridge.observe.hooks import capturing_states
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import check_support, skipping
from vlm_bridge.skip.resume import starting_at


def next_token_agreement(
    vlm: VLM,
    items: Sequence[Item],
    plans: Sequence[SkipPlan | str],
    *,
    batch_size: int = 16,
    checkpoint: Path | None = None,
) -> list[Estimate]:
    """Share of places in each text at which a plan leaves the likeliest next token as it was.

    The text is the question of an item, without chat template: tokens x_1 ... x_n of one text give
    (1/n) sum_t [argmax p_skipped(. | x_1..t) = argmax p_full(. | x_1..t)], and the estimate of a
    plan is the mean over texts with a betting interval. Nothing is generated, so that one changed
    token does not change those behind it. Resumable by the file `checkpoint`.

    Raises:
        BridgeError: an encoder-decoder, an item about an image or a recording, a text of no token,
            a plan that the model does not support, a checkpoint of another run.

    Source:
        Top-1 agreement of a draft model; Leviathan, Kalman and Matias 2023, arXiv 2211.17192.
    """
    check_vlm(vlm)
    items = check_items(items)
    chosen = given_plans(vlm, plans)
    for plan in chosen:
        check_support(vlm, plan)
    if vlm.layout.encoder_decoder:
        raise BridgeError(f"{vlm.name} is an encoder-decoder: its decoder reads no text")
    if others := [item.name for item in items if item.kinds != ("text",)]:
        raise BridgeError(f"next tokens are compared on texts alone, and {others[0]} is none")
    results = run_batches(
        vlm,
        items,
        lambda batch: _of_batch(vlm, batch, chosen),
        lambda result, n: (
            is_list_of(result, list, len(chosen))
            and all(is_list_of(shares, float, n) for shares in result)
        ),
        batch_size=batch_size,
        title=f"next tokens under {len(chosen)} plans",
        checkpoint=checkpoint,
        key=run_key("next tokens", vlm, items, plans=[plan.hash() for plan in chosen]),
    )
    clusters = [item.cluster for chosen, _ in results for item in chosen]
    shares = ([share for _, result in results for share in result[i]] for i in range(len(chosen)))
    return [clustered_mean(values, clusters, bounds=(0, 1), unit="1") for values in shares]


@torch.no_grad()
def _of_batch(vlm: VLM, batch: Batch, plans: Sequence[SkipPlan]) -> list[list[float]]:
    """For every plan the share of each text; texts run one by one, so that none is padded."""
    shares: list[list[float]] = [[] for _ in plans]
    for item in batch.items:
        ids = vlm.tokenizer(item.question, return_tensors="pt")["input_ids"].to(vlm.device)
        if not ids.numel():
            raise BridgeError(f"the text of {item.name} has no token")

        def likeliest(ids: Tensor = ids) -> Tensor:
            tokens: Tensor = vlm.model(input_ids=ids, use_cache=False).logits[0].argmax(-1)
            return tokens

        states: dict[int, Tensor] = {}

        def keep(layer: int, _: Tensor, output: Tensor, states: dict[int, Tensor] = states) -> None:
            states[layer] = output

        with vlm.whole(), capturing_states(vlm, keep):
            full = likeliest()
        for place, plan in enumerate(plans):
            with skipping(vlm, plan), starting_at(vlm, plan.first_layer, states):
                shares[place].append(float((likeliest() == full).double().mean()))
    return shares
