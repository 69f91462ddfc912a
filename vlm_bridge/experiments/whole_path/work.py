"""How many answers each step of a run takes, at most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vlm_bridge.cost.measure import WARM_UP
from vlm_bridge.data import Item
from vlm_bridge.experiments.claims.effort import Effort, seconds_per_answer
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.units import units
from vlm_bridge.rules import Rule, check_mode
from vlm_bridge.selection.path import RUNGS


def work_of(
    vlm: VLM,
    splits: Mapping[str, Sequence[Item]],
    rule: Rule,
    modes: Sequence[str | None],
    *,
    null: bool,
    pairs: int,
    batch_size: int,
    max_new_tokens: int,
) -> Effort:
    """The answers of each step, and the time of one, measured on the first tuning questions.

    A forward pass counts as an answer, so the steps that only read prompts take less. A rule that
    reads the profile alone costs nothing; one that tries candidates is counted with half a pass
    for each unit and question.

    Args:
        vlm: the model.
        splits: split -> questions.
        rule: ranks the units.
        modes: of the rule; None is its first that the model has.
        null: whether a copy with random weights is profiled too.
        pairs: timed pairs of full and skipped.
        batch_size: questions in a batch.
        max_new_tokens: longest answer, in tokens.

    Raises:
        BridgeError: a mode that the rule does not have.
    """
    n = {name: len(items) for name, items in splits.items()}
    own = [check_mode(rule, mode, vlm.layout.modality) for mode in modes]
    counted = sum(len(units(mode, vlm.layout.n_layers)) for mode in own)
    tried = 0 if rule.requires in ("nothing", "forward pass") else counted // 2
    answers = {
        "profile": n["profiling"] * (1 + null),
        "rule": n["tuning"] * tried,
        "search": n["tuning"] * (1 + counted) + n["certification"] * (1 + len(RUNGS)),
        "compare": 2 * n["test"],
        "cost": 2 * (pairs + WARM_UP) * (min(batch_size, n["test"]) + 1),
    }
    sizes = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
    return Effort(answers, 0.0, seconds_per_answer(vlm, splits["tuning"], **sizes))
