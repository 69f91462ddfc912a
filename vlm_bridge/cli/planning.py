"""`skipit plan`: from the scores of a rule to one plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from estimators import Profile
from vlm_bridge.cli.options import (
    DataOptions,
    MaxNewTokens,
    ModelOptions,
    StackName,
)
from vlm_bridge.cli.output import save, say
from vlm_bridge.data import Item, unit_word
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS
from vlm_bridge.plan.modes import LAYERWISE, RULE_MODES
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.stacks import DECODER
from vlm_bridge.rules import (
    RULES,
    Evidence,
    Rule,
    check_mode,
    check_stack,
    find_rule,
    score_units,
)
from vlm_bridge.runtime.files import check_writable, read_record
from vlm_bridge.selection.choose import choose_plan

RuleName = Annotated[str, Option(help=f"One of {', '.join(RULES)}; see `skipit rules`.")]
RuleMode = Annotated[
    str | None,
    Option(
        help=f"Mode of the rule: {', '.join(RULE_MODES)} (default: its first that the model has)."
    ),
]


def plan(
    model: ModelOptions,
    data: DataOptions,
    profile: Annotated[
        Path, Option(help="From `skipit profile`; a rule that requires nothing needs none.")
    ] = Path("out/profile.json"),
    rule: RuleName = "skip-it",
    mode: RuleMode = None,
    stack: StackName = DECODER,
    epsilon: Annotated[
        float,
        Option(
            help="Share of answers that the plan may change on new images; on the tuning images "
            "(--data) it changes at most half of it."
        ),
    ] = 0.02,
    forward_cost: Annotated[
        float | None,
        Option(
            help="Budget of the rule, in forward passes over the images; a rule that needs more "
            "gets fewer images (default: no limit)."
        ),
    ] = None,
    max_new_tokens: MaxNewTokens = MAX_NEW_TOKENS,
    explain: Annotated[
        bool,
        Option(
            "--explain",
            help="Print a table of conditions (skip-it-slopes only; needs at least 20 images).",
        ),
    ] = False,
    out: Annotated[Path, Option(help="Plan to write (JSON).")] = Path("out/plan.json"),
) -> Any:
    """Choose the largest plan of a rule that changes few answers.

    An answer is the greedy text up to --max-new-tokens tokens; rules score by the first token.

    The plan changes at most epsilon/2 of the answers to --data; certify it on other images.
    `skipit rules` lists what each rule requires; only gm-skip reads labels. Prints the cost of the
    rule in forward passes over the images.

    --explain prints a table with one line for each unit. Its columns are the score and one bound
    for each statement of docs/statements.md that applies to the mode: S6, share of answers that
    may change; S7, KL divergence over the two likeliest answers (nats); G-F and P-F, change of the
    mean output that the cosine distances allow; S14, usable information about the model's own
    answer that the unit removes, and S9, unique plus synergistic information of vision (nats); S8,
    relative change of the output of the attention heads at the last token without vision keys,
    mean over heads. A star: not safe by that condition.

    Example: `skipit plan reference --data easy-vqa:tuning --profile out/profile.json`

    Example: `skipit plan whisper-tiny.en --stack audio --rule shortgpt --data
    spoken-prompts:tuning --profile out/audio-profile.json`
    """
    check_writable(out)
    chosen_rule = find_rule(rule)
    check_stack(chosen_rule, stack)
    if explain and not chosen_rule.explains:
        explaining = ", ".join(name for name, known in RULES.items() if known.explains)
        raise BridgeError(f"rule '{rule}' has no conditions to explain; {explaining} has")
    items, measured = data.items(), None
    if chosen_rule.requires != "nothing" or profile.exists():
        if not profile.exists():
            raise BridgeError(
                f"no profile at {profile}; make one with `skipit profile`, or name it with "
                f"--profile: rule '{rule}' requires it"
            )
        measured = read_record(profile, Profile, "profile")
    vlm = model.load()
    evidence = Evidence(vlm, items, measured, batch_size=data.batch_size, stack=stack)
    chosen = choose_plan(
        vlm,
        measured,
        items,
        rule=rule,
        mode=mode,
        epsilon=epsilon,
        batch_size=data.batch_size,
        max_new_tokens=max_new_tokens,
        evidence=evidence,
        forward_cost=forward_cost,
    )
    result = save(out, chosen.to_json())
    cost, words = chosen.provenance.settings["forward_cost"], vlm.layout.modality
    if explain:
        for line in _explained(
            chosen_rule, evidence, check_mode(chosen_rule, mode, evidence.modality), epsilon
        ):
            say(line)
        spent = ", ".join(f"{name} {count:.1f}" for name, count in evidence.cost.items())
        say(f"forward-pass equivalents: {spent}")
    found = "no plan found: " if chosen.is_empty else ""
    if cost or chosen.mode in LAYERWISE:
        read = chosen.provenance.settings["images_read"]
        price = (
            f"the rule cost {cost:.1f} forward passes for each question of {read} "
            f"{unit_word(items, read)}, that of the profile included"
        )
    else:
        price = "the mode has one plan for each depth, and all were tried on tuning images"
    say(f"{found}{chosen.describe(words)}; {price}: {out}")
    say(_tuned(chosen, items))
    return result


def _tuned(plan: SkipPlan, items: Sequence[Item]) -> str:
    """What was measured on the tuning images; it is no certificate."""
    on = f"{len({item.cluster for item in items})} tuning {unit_word(items)}"
    settings, longest = plan.provenance.settings, plan.provenance.max_new_tokens
    last = settings["tried"][-1]
    least = "" if last["whole"] else "at least "
    who = "the plan" if last["whole"] else "the smallest plan of the rule"
    return (
        f"{who} changed {least}{last['rate']:.2%} of answers up to {longest} tokens, on {on}; "
        f"allowed {settings['threshold']:.2%}, half of epsilon {settings['epsilon']:g}; "
        "not certified: `skipit certify` does that on others"
    )


def _explained(rule: Rule, evidence: Evidence, mode: str, epsilon: float) -> Iterator[str]:
    """A line for every unit: its score and the bound of each condition, starred if not safe."""
    scores = score_units(rule, evidence, mode)
    reasons = rule.explain(evidence, mode, epsilon=epsilon, probes=True)
    statements = list(dict.fromkeys(reason.bound.statement for reason in reasons))
    yield "\t".join(["unit", "score", *statements])
    for number, unit in enumerate(evidence.units(mode)):
        by_name = {reason.bound.statement: reason for reason in reasons if reason.unit == number}
        ordered = [by_name[statement] for statement in statements]
        cells = [f"{reason.bound.value:.3g}{'' if reason.safe else '*'}" for reason in ordered]
        words = unit.describe(evidence.vlm.layout.modality)
        yield "\t".join([words, f"{scores[number]:.3g}", *cells])
