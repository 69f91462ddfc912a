"""Every single-layer skip, every exit and entry depth, against the full model; resumable.

What plans share is computed once: a plan starts from the full model's states at the first
layer it touches (token pruning: at the layer whose attention it reads), and an entry at layer
a starts from the text-only states of the entry before it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlm_bridge.capture import capturing_states
from vlm_bridge.comparison import Comparison, Outcomes
from vlm_bridge.data import Item, items_hash
from vlm_bridge.errors import BridgeError
from vlm_bridge.journal import run_batches
from vlm_bridge.plan import SkipPlan
from vlm_bridge.prompts import Batch
from vlm_bridge.skip import skipping
from vlm_bridge.skip.patching import patched
from vlm_bridge.skip.support import check_support
from vlm_bridge.vlm import VLM

DECISION = "first answer token"
#: What is swept unless modes are named: one layer or one depth a plan.
MODES = ("block", "freeze", "early_exit", "late_entry")
SWEEPABLE = (*MODES, "sublayer", "token_pruning")
KEEP = (0.5, 0.25, 0.1)


def sweep_plans(
    n_layers: int,
    *,
    step: int = 1,
    modes: Sequence[str] = MODES,
    keep: Sequence[float] = KEEP,
) -> list[SkipPlan]:
    """All single-layer and single-depth plans, every `step`-th of them, ends included.

    Args:
        n_layers: depth of the decoder.
        step: every so many layers and depths.
        modes: some of `SWEEPABLE`. `sublayer` leaves out each attention, then each MLP;
            `token_pruning` crosses every depth from 1 on with every share in `keep`.
        keep: shares of vision tokens kept, for `token_pruning`.

    Raises:
        BridgeError: `step` below 1, an unknown mode, or a share outside (0, 1).

    Example:
        >>> [plan.describe() for plan in sweep_plans(2, modes=["sublayer"])][1]
        'skip attention of layers 1 (sublayer, 2 layers)'
    """
    if step < 1:
        raise BridgeError(f"the step of a sweep must be at least 1, got {step}")
    unknown = set(modes) - set(SWEEPABLE)
    if unknown:
        raise BridgeError(
            f"a sweep has no mode {', '.join(sorted(unknown))}; it has {', '.join(SWEEPABLE)}"
        )
    layers = sorted({*range(0, n_layers, step), n_layers - 1})
    depths = sorted({*range(0, n_layers + 1, step), n_layers})
    made: dict[str, Iterable[dict[str, Any]]] = {
        "block": ({"layers": (layer,)} for layer in layers),
        "freeze": ({"layers": (layer,)} for layer in layers),
        "early_exit": ({"exit": depth} for depth in depths),
        "late_entry": ({"entry": depth} for depth in depths),
        "sublayer": ({part: (layer,)} for part in ("attention", "mlp") for layer in layers),
        "token_pruning": (
            {"after": after, "keep": share}
            for share in keep
            for after in sorted({*depths[1:-1], 1, n_layers - 1} - {0})
        ),
    }
    return [SkipPlan(mode, n_layers, **fields) for mode in modes for fields in made[mode]]


def sweep(
    vlm: VLM,
    items: Iterable[Item],
    plans: Sequence[SkipPlan],
    *,
    journal: Path | None = None,
    size: int = 16,
) -> list[Comparison]:
    """Compare every plan with the full model on the same items.

    What is compared is the first answer token (its argmax, and its whole distribution);
    it counts as right where it is the first token of the true answer. Under `torchrun` the
    batches are dealt out to the ranks, and every rank gets all comparisons.

    Args:
        vlm: the model.
        items: the questions, with answers where accuracy is wanted.
        plans: as `sweep_plans` makes them; any plan works, those share most.
        journal: a file every finished batch is added to; a second call with the same
            model, items and plans continues after the last one.
        size: batch size.

    Raises:
        BridgeError: the model cannot do a plan, there are no items, the journal is of another
            run, or another rank died.
    """
    found = sweep_outcomes(vlm, items, plans, journal=journal, size=size)
    return [Comparison.of(p, o, DECISION) for p, o in zip(plans, found, strict=True)]


def sweep_outcomes(
    vlm: VLM,
    items: Iterable[Item],
    plans: Sequence[SkipPlan],
    *,
    journal: Path | None = None,
    size: int = 16,
) -> list[Outcomes]:
    """As `sweep`, question by question: what scores of rules are held against.

    Raises:
        BridgeError: as `sweep`.
    """
    items = list(items)
    for plan in plans:
        check_support(vlm, plan)
    found = run_batches(
        vlm,
        items,
        lambda batch: [outcomes.columns() for outcomes in _run_batch(vlm, batch, plans)],
        size=size,
        title=f"sweep of {len(plans)} plans",
        journal=journal,
        key={
            "run": "sweep",
            "model": vlm.name,
            "data": items_hash(items),
            "plans": [plan.hash() for plan in plans],
            "size": size,
        },
    )
    parts = [[Outcomes.of_columns(chosen, c) for c in columns] for chosen, columns in found]
    return [Outcomes.join(per_plan) for per_plan in zip(*parts, strict=True)]


@torch.no_grad()
def first_tokens(vlm: VLM, batch: Batch, plans: Sequence[SkipPlan]) -> tuple[Tensor, list[Tensor]]:
    """Log-probabilities of the first answer token, of the full model and under every plan.

    Returns:
        (n, vocabulary), and as many for each plan, in nats.
    """
    states: dict[int, Tensor] = {}
    with capturing_states(vlm, lambda layer, _, output: states.__setitem__(layer, output)):
        full = _first_token(vlm, batch)
    found: dict[int, Tensor] = {}
    chain = _EntryChain()
    order = sorted(range(len(plans)), key=lambda i: plans[i].entry or 0)
    for i in order:
        plan = plans[i]
        with skipping(vlm, plan):
            if plan.mode == "late_entry":
                found[i] = chain.run(vlm, batch, plan)
            else:
                with starting_at(vlm, plan.first_layer, states):
                    found[i] = _first_token(vlm, batch)
    return full, [found[i] for i in range(len(plans))]


def _run_batch(vlm: VLM, batch: Batch, plans: Sequence[SkipPlan]) -> list[Outcomes]:
    full, skipped = first_tokens(vlm, batch, plans)
    judge = starts_right(vlm)
    said = (_words(vlm, full), full)
    return [Outcomes.of(batch.items, said, (_words(vlm, one), one), judge=judge) for one in skipped]


class _EntryChain:
    """Text-only states of the layers so far: entry at a begins where entry before a ended."""

    def __init__(self) -> None:
        self.depth = 0
        self.states: dict[int, Tensor] = {}

    def run(self, vlm: VLM, batch: Batch, plan: SkipPlan) -> Tensor:
        entry = plan.entry or 0
        grown: dict[int, Tensor] = {}

        def keep(layer: int, _: Tensor, output: Tensor) -> None:
            if layer == entry - 1:
                grown[layer] = output

        with starting_at(vlm, self.depth, self.states), capturing_states(vlm, keep):
            found = _first_token(vlm, batch)
        if grown:
            self.depth, self.states = entry, grown
        return found


@contextlib.contextmanager
def starting_at(vlm: VLM, start: int, states: dict[int, Tensor]) -> Iterator[None]:
    """Layers before `start` compute nothing; the last of them returns what it once returned."""
    with contextlib.ExitStack() as stack:
        for index in range(start):
            last = states[index] if index == start - 1 else None
            stack.enter_context(patched(vlm.layout.layers[index], _Recall(last)))
        yield


class _Recall:
    def __init__(self, states: Tensor | None) -> None:
        self.states = states

    def __call__(self, hidden_states: Tensor, *_: object, **__: object) -> Tensor:
        return hidden_states if self.states is None else self.states.to(hidden_states.device)


def _first_token(vlm: VLM, batch: Batch) -> Tensor:
    logits = vlm.model(**batch.inputs, use_cache=False, logits_to_keep=1).logits[:, -1]
    return torch.log_softmax(logits.float(), dim=-1)


def _words(vlm: VLM, log_probs: Tensor) -> list[str]:
    return [vlm.processor.tokenizer.decode([i]) for i in log_probs.argmax(-1).tolist()]


def starts_right(vlm: VLM) -> Callable[[str, Item], bool | None]:
    """A judge of first tokens: is it the first token of the true answer; None without one.

    A tokenizer may begin an answer with a space or a capital; each way counts.
    """
    tokenizer = vlm.processor.tokenizer

    def judge(token: str, item: Item) -> bool | None:
        if item.answer is None:
            return None
        words = {item.answer, item.answer.capitalize()}
        spelled = [
            tokenizer.encode(s + w, add_special_tokens=False) for w in words for s in ("", " ")
        ]
        return token in {tokenizer.decode(ids[:1]) for ids in spelled}

    return judge
