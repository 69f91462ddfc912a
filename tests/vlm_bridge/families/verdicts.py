"""What the bridge makes of a class of transformers: modes that run right, or the reason why not."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from tests.vlm_bridge.families.every import MOST, encoded, on_meta, run, small
from vlm_bridge.errors import BridgeError, first_line
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.modes import MODES
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import check_support, skipping
from vlm_bridge.skip.describe import describe

Outcome = Literal["works", "refused", "not built", "wrong"]
_TEXT = torch.tensor([[20, 31, 45, 27, 60, 33]])
_NEXT = torch.tensor([[52, 24]])


@dataclass(frozen=True)
class Verdict:
    """One model type of transformers.

    Attributes:
        kind: the model type.
        name: the class; empty if it could not be built.
        outcome: `works` in some mode; `refused` in all, by name; `not built` at a tiny size;
            `wrong`, which no class may be.
        reason: why it is refused, not built or wrong.
        layers: kinds of its layers, each once.
        modes: mode -> why not every layer has it, empty if every layer has.
        plans: mode -> the plan that was tried; modes that no plan can have are left out.
        ran: the input on which both forms of the plans gave the same; empty if on none.
        not_run: why the modes that did not run did not.
    """

    kind: str
    name: str
    outcome: Outcome
    reason: str = ""
    layers: tuple[str, ...] = ()
    modes: dict[str, str] = field(default_factory=dict)
    plans: dict[str, SkipPlan] = field(default_factory=dict)
    ran: str = ""
    not_run: str = ""


def judge(kind: str, *, runs: bool = True) -> Verdict:
    """The verdict on a model type; without `runs` its plans are not run."""
    try:
        model = on_meta(kind)
    except Exception as error:  # a package or a field that is missing, which is no error of ours
        return Verdict(kind, "", "not built", _words(error))
    name = type(model).__name__
    try:
        vlm = VLM.of(kind, model, None)
        modes = describe(vlm).modes
    except BridgeError as error:
        return Verdict(kind, name, "refused", str(error).removeprefix(f"{name}: "))
    except Exception as error:
        return Verdict(kind, name, "wrong", _words(error))
    layers = tuple(dict.fromkeys(vlm.layout.attention_types))
    plans = {mode: plan for mode in MODES if (plan := plan_of(vlm, mode)) is not None}
    if not plans:
        return Verdict(kind, name, "refused", modes["block"], layers, modes)
    ran, not_run, failed = _try(kind, model, plans) if runs else ("", "", "")
    outcome: Outcome = "wrong" if failed else "works"
    return Verdict(kind, name, outcome, failed, layers, modes, plans, ran, not_run)


def plan_of(vlm: VLM, mode: str) -> SkipPlan | None:
    """The first plan of a mode that the model supports; None if it supports none."""
    for fields in _candidates(mode, vlm.layout.n_layers):
        try:
            plan = SkipPlan(mode, vlm.layout.n_layers, **fields)
            check_support(vlm, plan)
        except BridgeError:
            continue
        return plan
    return None


def _candidates(mode: str, n_layers: int) -> Iterator[dict[str, Any]]:
    if mode == "sublayer":
        yield {"attention": (1,), "mlp": (2,)}
        for layer in range(n_layers):
            yield {"attention": (layer,)}
            yield {"mlp": (layer,)}
    elif mode == "token_pruning":
        yield {"after": 1, "keep": 0.5}
        for after in range(2, n_layers):
            yield {"after": after, "keep": 0.5}
            yield {"after": after, "keep": 0.5, "select": "divprune"}
    elif mode == "band":
        yield {"entry": 1, "exit": 3}
        yield {"entry": 0, "exit": n_layers - 1}
    elif mode in ("early_exit", "late_entry"):
        name = "exit" if mode == "early_exit" else "entry"
        order = range(2, n_layers) if name == "exit" else range(1, n_layers)
        yield from ({name: depth} for depth in order)
    else:
        yield {"layers": (0, 2)}
        yield from ({"layers": (layer,)} for layer in range(n_layers))


def _try(kind: str, model: Any, plans: dict[str, SkipPlan]) -> tuple[str, str, str]:
    """(input on which the plans ran, why others did not, what went wrong)."""
    if (n := sum(weight.numel() for weight in model.parameters())) > MOST:
        return "", f"its towers have {n / 1e6:.0f}M parameters", ""
    try:
        vlm = VLM.of(kind, small(kind), None)
        inputs = encoded(vlm) or {"input_ids": _TEXT}
        ran = next(iter(inputs.get("mm_encoder_outputs", ["text"])))
        cached = _passes(vlm, inputs)
    except Exception as error:  # a tiny size at which the class itself does not run
        return "", f"the full tiny model does not run ({_words(error)})", ""
    finally:
        gc.collect()
    if not cached.isfinite().all():
        return "", "the full tiny model gives NaN", ""
    left = [] if ran != "text" else [mode for mode in plans if not MODES[mode].every_token]
    for mode, plan in plans.items():
        if mode in left:
            continue
        try:
            with skipping(vlm, plan, fast=False):
                plain = _passes(vlm, inputs)
            with skipping(vlm, plan):
                fast = _passes(vlm, inputs)
            torch.testing.assert_close(fast, plain, atol=1e-4, rtol=1e-4)
        except Exception as error:
            return "", "", f"{plan.describe()}: {_words(error)}"
    why = "the class takes no image or sound that was encoded beforehand" if left else ""
    return ran, why, ""


def _passes(vlm: VLM, inputs: dict[str, Any]) -> torch.Tensor:
    """Logits of the inputs, and of a pass of text behind them with the cache."""
    begun = run(vlm, inputs, use_cache=True)
    rest = run(vlm, {"input_ids": _NEXT}, use_cache=True, past_key_values=begun.past_key_values)
    return torch.cat([begun.logits, rest.logits], dim=1)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}".removesuffix(": ")
