"""`skipit search --adaptive`: chains of gates, and plans that judge token by token."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from theory import what_it_takes
from vlm_bridge.cli.adaptive_words import interval, said
from vlm_bridge.cli.as_json import CheckFailed
from vlm_bridge.cli.output import save, say
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.adaptive_cost import SAMPLED, AdaptiveMeasure
from vlm_bridge.evaluate.by_token import TokenMeasure
from vlm_bridge.figures.adaptive import plot_front
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import OWN_SIGNALS
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.stacks import DECODER
from vlm_bridge.rules import RULES, Rule
from vlm_bridge.runtime.distributed import is_main
from vlm_bridge.runtime.ledger import Ledger
from vlm_bridge.selection.adaptive import CertifiedAdaptive, adaptive_search
from vlm_bridge.selection.by_token import CertifiedByToken, search_by_token

#: Modes that skip something of the tokens of an answer.
_OF_TEXT = ("block", "sublayer")
Adaptive = Annotated[
    bool, Option("--adaptive", help="Send answers that are not sure enough to the full model.")
]
Signals = Annotated[
    list[str] | None,
    Option(
        help="With --adaptive, repeatable: margin (default), entropy or confidence of a plan's "
        "answer; agreement of two plans, tried for every pair of candidates."
    ),
]
Over = Annotated[
    str,
    Option(
        help="With --adaptive: an answer is judged by the least sure of its tokens ('answer') or "
        "by its 'first'; or each 'token' is judged by itself, and the full model gives those that "
        "fall (--mode block or sublayer, one --signal, one gate)."
    ),
]
Gates = Annotated[
    int,
    Option(
        help="With --adaptive: most plans of a chain, each with a threshold, before the full "
        "model. More fit the tuning images better, and need more of them."
    ),
]


def search_adaptive(
    vlm: VLM,
    tuning: Sequence[Item],
    certification: Sequence[Item],
    candidates: Sequence[SkipPlan],
    *,
    signals: Sequence[str],
    over: str,
    gates: int,
    epsilon: float,
    delta: float,
    batch_size: int,
    max_new_tokens: int,
    ledger: Ledger | None,
    check: bool,
    out: Path,
) -> Any:
    """`skipit search --adaptive`: writes search.json, front.png, and adaptive.json if certified."""
    found = adaptive_search(
        *(vlm, tuning, certification, candidates),
        signals=signals,
        over=over,
        gates=gates,
        epsilon=epsilon,
        delta=delta,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        checkpoint=out / "checkpoints",
        ledger=ledger,
    )
    if is_main():
        plot_front(out / "front.png", found.front, found.fixed, found.tested, epsilon=epsilon)
    ended = _concluded(found, vlm, certification, epsilon=epsilon, check=check, out=out)
    if found.plan is not None:
        say(f"{_cost(found)}: {out}/adaptive.json, {out}/front.png")
    return ended


def search_tokens(
    vlm: VLM,
    tuning: Sequence[Item],
    certification: Sequence[Item],
    candidates: Sequence[SkipPlan],
    *,
    signals: Sequence[str],
    epsilon: float,
    check: bool,
    out: Path,
    **how: Any,
) -> Any:
    """`skipit search --adaptive --over token`: writes search.json, and adaptive.json if certified.

    `how` are further arguments of `search_by_token`.
    """
    (signal,) = signals
    found = search_by_token(
        *(vlm, tuning, certification, candidates),
        signal=signal,
        epsilon=epsilon,
        checkpoint=out / "checkpoints",
        **how,
    )
    ended = _concluded(found, vlm, certification, epsilon=epsilon, check=check, out=out)
    if found.plan is not None:
        say(f"its time: skipit adaptive {vlm.name} {out}/adaptive.json --data TEST")
    return ended


def _concluded(
    found: CertifiedAdaptive | CertifiedByToken,
    vlm: VLM,
    certification: Sequence[Item],
    *,
    epsilon: float,
    check: bool,
    out: Path,
) -> Any:
    """Write what a search found, and say it; without a plan, that of an earlier search goes."""
    result, words = save(out / "search.json", found.to_json()), vlm.layout.modality
    measures: Sequence[AdaptiveMeasure | TokenMeasure] = found.tested
    for tested, certificate in zip(measures, found.certificates, strict=True):
        verdict = "passes" if certificate.holds else "fails"
        say(f"tested: {tested.plan.describe(words)}: {said(tested, certification)}; {verdict}")
    if found.plan is not None and found.certificate is not None:
        save(out / "adaptive.json", found.plan.to_json())
        say(f"certified: {found.plan.describe(words)}: {found.certificate.sentence()}")
        return result
    if is_main():
        (out / "adaptive.json").unlink(missing_ok=True)
    for failed in found.certificates:
        say(what_it_takes(failed))
    say(f"no adaptive plan could be certified at epsilon {epsilon}: {out}/search.json")
    if check:
        raise CheckFailed(result)
    return result


def check_adaptive_options(adaptive: bool, stack: str, given: Sequence[object]) -> None:
    """Raise a `BridgeError` for an encoder with --adaptive, or `given` options of it without."""
    if not adaptive and given:
        got = ", ".join(map(str, given))
        raise BridgeError(f"--signal, --over and --gates go with --adaptive, got {got} without")
    if adaptive and stack != DECODER:
        raise BridgeError(
            f"--adaptive searches layers of the decoder, got --stack {stack}; an encoder's output "
            "is what an adaptive plan shares"
        )


def check_by_token(
    over: str, signals: Sequence[str], gates: int, rule: Rule, modes: Sequence[str]
) -> None:
    """Raise a `BridgeError` for what --over token cannot do: gates, signals, modes."""
    if over == "token" and (gates != 1 or len(signals) != 1 or signals[0] not in OWN_SIGNALS):
        raise BridgeError(
            f"--over token takes one --signal of {', '.join(OWN_SIGNALS)} and one gate, got "
            f"--signal {', '.join(signals)} and --gates {gates}"
        )
    used = modes or rule.modes[:1]
    if over == "token" and not set(used) <= set(_OF_TEXT):
        able = [name for name, other in RULES.items() if set(_OF_TEXT) & set(other.modes)]
        raise BridgeError(
            f"--over token judges plans that skip something of the answer's tokens: --mode "
            f"{' or '.join(_OF_TEXT)}, got {', '.join(used)} (--rule {rule.name}); rules that rank "
            f"them: {', '.join(able)}"
        )


def _cost(found: CertifiedAdaptive) -> str:
    assert found.cost is not None
    together = f"{len(found.path)} steps hold together" if len(found.path) > 1 else "1 step"
    return (
        f"expected prefill FLOPs {interval(found.cost)} of the full model's, on the certification "
        f"images, given FLOPs counted on {SAMPLED} tuning questions at most (intervals of "
        f"{together})"
    )
