"""From a ranking to a plan: the largest one whose answers agree on the tuning images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from estimators import Profile
from vlm_bridge.data import Item, image_hashes, items_hash
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import answer, answer_batch
from vlm_bridge.model.prompts import batches
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules import (
    Evidence,
    check_mode,
    empty_plan,
    find_rule,
    nested_plans,
    within_forward_cost,
)
from vlm_bridge.runtime.progress import track
from vlm_bridge.skip import skipping


def choose_plan(
    vlm: VLM,
    profile: Profile,
    items: Iterable[Item],
    *,
    rule: str = "skip-it",
    mode: str | None = None,
    epsilon: float = 0.02,
    batch_size: int = 16,
    max_new_tokens: int = 8,
    full: Sequence[str] | None = None,
    evidence: Evidence | None = None,
    forward_cost: float | None = None,
) -> SkipPlan:
    """The largest plan of a rule whose disagreement on `items` is at most `epsilon / 2`.

    The rule ranks layers from the profile; its nested plans are tried from the largest
    down, each given up as soon as it has disagreed too often, so no monotonicity is
    assumed. Images that turned earlier candidates down are asked first, which changes when a
    candidate is given up, never whether. Labels are not read: agreement is with the full
    model's own answers. Half of epsilon leaves room for the certificate, which looks at other
    images.

    Args:
        vlm: the model.
        profile: of the same model.
        items: tuning questions, disjoint by image from those that certify.
        rule: a name in `RULES`.
        mode: one of the rule's modes; None is its first.
        epsilon: the disagreement the certificate will be asked for.
        batch_size: questions in a batch.
        max_new_tokens: longest answer.
        full: the full model's answers to `items`, where they are already at hand.
        evidence: what the rule looks at, where it is at hand; of `items` by default.
        forward_cost: what the rule may cost, in forward passes over the evidence; see
            `within_forward_cost`.

    Returns:
        The plan; skipping nothing where even the smallest one disagrees too often. Its
        `source` says rule, data, threshold, and what every tried plan came to.

    Raises:
        BridgeError: unknown rule, epsilon outside (0, 1), a profile of another depth, or no
            items.
    """
    items = list(items)
    if not 0 < epsilon < 1:
        raise BridgeError(f"epsilon must lie between 0 and 1, got {epsilon}")
    if profile.n_layers != vlm.layout.n_layers:
        raise BridgeError(
            f"the profile has {profile.n_layers} layers, the model {vlm.layout.n_layers}"
        )
    chosen = find_rule(rule)
    mode = check_mode(chosen, mode)
    if evidence is None:
        evidence = Evidence(vlm, items, profile, batch_size=batch_size)
    if forward_cost is not None:
        chosen, evidence = within_forward_cost(chosen, evidence, mode, forward_cost)
    candidates = nested_plans(chosen, evidence, mode)
    if full is None:
        title = "full model on tuning images"
        full = answer(vlm, items, batch_size=batch_size, max_new_tokens=max_new_tokens, title=title)
    if len(full) != len(items):
        raise BridgeError(f"{len(full)} full answers were given for {len(items)} items")
    tried: list[dict[str, object]] = []
    changes: Counter[str] = Counter()
    found = empty_plan(mode, profile.n_layers)
    with track(f"plans of {rule}, largest first", len(candidates)) as advance:
        for candidate in reversed(candidates):
            rate, whole = _disagreement(
                vlm,
                candidate,
                sorted(zip(items, full, strict=True), key=lambda pair: -changes[pair[0].cluster]),
                epsilon / 2,
                changes,
                batch_size=batch_size,
                max_new_tokens=max_new_tokens,
            )
            tried.append({"layers": len(candidate.touched_layers), "rate": rate, "whole": whole})
            advance(1)
            if whole:
                found = candidate
                break
    source = {
        **candidates[0].source,
        "tuning_hash": items_hash(items),
        "tuning_images": image_hashes(items),
        "epsilon": epsilon,
        "threshold": epsilon / 2,
        "tried": tried,
        "forward_cost": sum(evidence.spent.get(chosen.name, {}).values()),
    }
    return replace(found, source=source)


def _disagreement(
    vlm: VLM,
    plan: SkipPlan,
    answered: Sequence[tuple[Item, str]],
    limit: float,
    changes: Counter[str],
    *,
    batch_size: int,
    max_new_tokens: int,
) -> tuple[float, bool]:
    """Mean over images of the share of changed answers, and whether all images were seen.

    Stops when the images seen already push the mean over all of them past `limit`; the
    number is then a lower bound. `changes` counts the changed answers of every image.
    """
    items = [item for item, _ in answered]
    asked = Counter(item.cluster for item in items)
    total = 0.0
    with skipping(vlm, plan):
        for batch in batches(vlm, items, batch_size=batch_size):
            texts = answer_batch(vlm, batch, max_new_tokens=max_new_tokens).texts
            for item, place, text in zip(batch.items, batch.places, texts, strict=True):
                if text != answered[place][1]:
                    changes[item.cluster] += 1
                    total += 1 / asked[item.cluster]
            if total / len(asked) > limit:
                return total / len(asked), False
    return total / len(asked), True
