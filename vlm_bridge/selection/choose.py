"""The largest plan of a rule whose answers agree with the full model's on the tuning images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from estimators import Profile
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.model.given import check_items, check_vlm
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.stacks import DECODER
from vlm_bridge.plan.units import empty_plan
from vlm_bridge.rules import Evidence, check_mode, find_rule, nested_plans, within_forward_cost
from vlm_bridge.rules.evidence import check_profile
from vlm_bridge.selection.tuning import tuned_on


def choose_plan(
    vlm: VLM,
    profile: Profile | None,
    items: Iterable[Item],
    *,
    rule: str = "skip-it",
    mode: str | None = None,
    epsilon: float = 0.02,
    batch_size: int = 16,
    max_new_tokens: int = MAX_NEW_TOKENS,
    full: Sequence[str] | None = None,
    evidence: Evidence | None = None,
    forward_cost: float | None = None,
) -> SkipPlan:
    """The largest plan of a rule whose disagreement on `items` is at most `epsilon / 2`.

    An answer is the greedy text up to `max_new_tokens` tokens.

    The rule's nested plans are tried from the largest down, without assuming that disagreement
    grows with size, each until it has disagreed too often; questions whose answers changed most so
    far come first. No labels are read: plans are compared with the full model's answers. Half of
    epsilon leaves room for the certificate on other images.

    Args:
        vlm: the model.
        profile: of the same model; None if the rule requires none, or the evidence has one.
        items: tuning questions, disjoint by image from those for the certificate.
        rule: a name in `RULES`.
        mode: one of the rule's modes; None is its first that the model has.
        epsilon: the disagreement to certify later.
        batch_size: questions in a batch.
        max_new_tokens: longest answer, in tokens.
        full: the full model's answers to `items`, if known.
        evidence: for the rule, about the stack to plan for; by default of `items`, `profile` and
            the decoder.
        forward_cost: budget of the rule in forward passes; see `within_forward_cost`.

    Returns:
        The plan, with model, rule, images, threshold and the disagreement of every plan tried as
        its `provenance`. It skips nothing if even the smallest plan disagrees too often.

    Raises:
        BridgeError: unknown rule, epsilon outside (0, 1), a profile of another model, or no
            items.
    """
    check_vlm(vlm)
    items = check_items(items)
    if not 0 < epsilon < 1:
        raise BridgeError(f"epsilon must lie between 0 and 1, got {epsilon}")
    if profile is not None:
        check_profile(vlm, profile, DECODER if evidence is None else evidence.stack)
    chosen = find_rule(rule)
    if evidence is None:
        evidence = Evidence(vlm, items, profile, batch_size=batch_size)
    mode = check_mode(chosen, mode, evidence.modality)
    if forward_cost is not None:
        chosen, evidence = within_forward_cost(chosen, evidence, mode, forward_cost)
    candidates = nested_plans(chosen, evidence, mode)
    if full is None:
        answers = FullAnswers.ask(vlm, items, batch_size=batch_size, max_new_tokens=max_new_tokens)
    else:
        answers = FullAnswers(
            vlm.name, tuple(items), tuple(full), max_new_tokens, fingerprint=vlm.fingerprint
        )
    asked = Counter(item.cluster for item in items)
    changes: Counter[str] = Counter()
    tried: list[dict[str, object]] = []
    largest = empty_plan(mode, evidence.n_layers, stack=evidence.stack)
    for candidate in reversed(candidates):
        pairs = zip(answers.items, answers.texts, strict=True)
        asked_items, texts = zip(*sorted(pairs, key=lambda p: -changes[p[0].cluster]), strict=True)
        ordered = replace(answers, items=asked_items, texts=texts)
        outcomes = ordered.outcomes(vlm, candidate, batch_size=batch_size, limit=epsilon / 2)
        changed = [i.cluster for i, d in zip(outcomes.items, outcomes.disagree, strict=True) if d]
        changes.update(changed)
        # Of a stopped plan this is a lower bound, above the limit.
        rate = sum(1 / asked[cluster] for cluster in changed) / len(asked)
        whole = rate <= epsilon / 2
        tried.append({"layers": len(candidate.touched_layers), "rate": rate, "whole": whole})
        if whole:
            largest = candidate
            break
    settings = {
        "epsilon": epsilon,
        "threshold": epsilon / 2,
        "max_new_tokens": max_new_tokens,
        "tried": tried,
        "forward_cost": sum(evidence.spent.get(chosen.name, {}).values()),
        "images_read": len(set(evidence.clusters)),
    }
    largest = replace(largest, provenance=candidates[0].provenance)
    return tuned_on(vlm, largest, items, max_new_tokens=max_new_tokens, settings=settings)
