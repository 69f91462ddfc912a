"""`skipit plan` and `skipit search`: from the scores of a rule to one plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from estimators import Profile
from theory import Certificate, what_it_takes
from vlm_bridge.cli.adaptive_search import (
    Adaptive,
    Gates,
    Over,
    Signals,
    check_adaptive_options,
    check_by_token,
    search_adaptive,
    search_tokens,
)
from vlm_bridge.cli.as_json import CheckFailed
from vlm_bridge.cli.options import (
    Check,
    DataOptions,
    Delta,
    Epsilon,
    LedgerOptions,
    MaxNewTokens,
    ModelOptions,
    StackName,
)
from vlm_bridge.cli.output import note, save, say
from vlm_bridge.data import Item, unit_word
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS
from vlm_bridge.evaluate.spending import reach_of_search
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
    nested_plans,
    score_units,
)
from vlm_bridge.runtime.distributed import is_main
from vlm_bridge.runtime.files import check_writable, read_record
from vlm_bridge.selection import bands, greedy_plans
from vlm_bridge.selection import search as run_search
from vlm_bridge.selection.certified import check_splits
from vlm_bridge.selection.chains import check_chains
from vlm_bridge.selection.choose import choose_plan

HOW = ("nested", "greedy", "bands")
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


def search(
    model: ModelOptions,
    data: DataOptions,
    spending: LedgerOptions,
    certification: Annotated[str, Option(help="Questions that certify, as --data; other images.")],
    how: Annotated[
        str,
        Option(
            help="Candidates: 'nested' plans of the rule; 'greedy' growth by measured KL; or all "
            "contiguous 'bands' of layers with vision tokens (no rule)."
        ),
    ] = "nested",
    rule: RuleName = "skip-it",
    mode: RuleMode = None,
    stack: StackName = DECODER,
    step: Annotated[int, Option(min=1, help="Step between depths, for 'bands'.")] = 1,
    epsilon: Epsilon = 0.02,
    delta: Delta = 0.05,
    max_new_tokens: MaxNewTokens = MAX_NEW_TOKENS,
    adaptive: Adaptive = False,
    signal: Signals = None,
    over: Over = "answer",
    gates: Gates = 1,
    check: Check = False,
    out: Annotated[Path, Option(help="Folder of results and checkpoints.")] = Path("out/search"),
) -> Any:
    """Find the largest plan whose disagreement is certified. Resumable.

    The questions of --data rank the candidates. A few of them, the safest first, are then tested
    in sequence on the certification images, each at the full delta, up to the first that fails.
    So the certificate holds with probability 1 - delta for any number of candidates. No labels.

    A ledger keeps the promise over several searches: the images of a search that has failed would
    certify a wrong plan sooner or later if they were searched again and again.

    An answer is the greedy text up to --max-new-tokens tokens. First prints, on standard error,
    which epsilon the certification images can reach at best; after a failure, how many images it
    would take. Writes search.json and, if a plan is certified, plan.json. With --check the exit
    code is 1 if no plan is certified.

    With --adaptive every candidate is tried with thresholds of its signals: answers below go on, to
    the next plan of a chain of at most --gates, at last to the full model. Certified is the
    cheapest of these in expected prefill FLOPs, and adaptive.json and front.png are written in
    place of plan.json. With --over token a threshold judges every token of an answer by itself;
    the cheapest plan is then the one with the least work of passes behind the prompt.

    Example: `skipit search reference --data easy-vqa:tuning --certification easy-vqa:certification`

    Example: `skipit search reference-smolvlm --adaptive --gates 2 --signal margin --signal
    agreement --data scenes:tuning --certification scenes:certification`
    """
    check_writable(out / "search.json")
    if how not in HOW:
        raise BridgeError(f"unknown --how '{how}'; choose from {', '.join(HOW)}")
    chosen_rule, ledger = find_rule(rule), spending.beside(out)
    check_stack(chosen_rule, stack)
    check_adaptive_options(
        adaptive,
        stack,
        [*(signal or []), *([over] if over != "answer" else []), *([gates] if gates != 1 else [])],
    )
    if adaptive:
        check_chains(signal or ["margin"], gates)
        check_by_token(over, signal or ["margin"], gates)
    tuning, certifying = data.items(), replace(data, data=certification).items()
    check_splits(tuning, certifying)
    if data.limit is not None:
        n, m = (len({item.cluster for item in each}) for each in (tuning, certifying))
        cut = f"--limit {data.limit} cuts both sets: {n} {unit_word(tuning, n)} of --data"
        note(f"{cut} and {m} of --certification")
    vlm = model.load()
    note(reach_of_search(ledger, vlm, certifying, epsilon=epsilon, delta=delta)[0])
    evidence = Evidence(vlm, tuning, batch_size=data.batch_size, stack=stack)
    if how == "bands":
        if stack != DECODER:
            raise BridgeError("--how bands searches layers of the decoder; leave --stack out")
        candidates = bands(vlm.layout.n_layers, step=step)
    elif how == "greedy":
        candidates = greedy_plans(chosen_rule, evidence, mode)
    else:
        candidates = nested_plans(chosen_rule, evidence, mode)
    wanted: Any = {"epsilon": epsilon, "delta": delta, "ledger": ledger}
    wanted |= {"batch_size": data.batch_size, "max_new_tokens": max_new_tokens}
    split = (vlm, tuning, certifying, candidates)
    if adaptive:
        wanted |= {"signals": signal or ["margin"], "check": check, "out": out}
        if over == "token":
            return search_tokens(*split, **wanted)
        return search_adaptive(*split, **wanted, over=over, gates=gates)
    certified = run_search(*split, **wanted, checkpoint=out / "checkpoints")
    result, words = save(out / "search.json", certified.to_json()), vlm.layout.modality
    for tested, certificate in zip(certified.path, certified.certificates, strict=False):
        say(_tested(tested.plan.describe(words), certificate))
    if certified.certificate is None:
        if is_main():  # of an earlier search
            (out / "plan.json").unlink(missing_ok=True)
        for failed in certified.certificates:
            say(what_it_takes(failed))
        if not certified.path:
            say(
                f"no plan was tested: each of {len(candidates)} candidates changed more than "
                f"{epsilon:g} of the answers to --data, or saves nothing"
            )
        say(f"no plan could be certified at epsilon {epsilon}: {out}/search.json")
        if check:
            raise CheckFailed(result)
    else:
        save(out / "plan.json", certified.plan.to_json())
        sentence = certified.certificate.sentence()
        say(f"certified: {certified.plan.describe(words)}: {sentence}: {out}/plan.json")
    return result


def _tested(plan: str, certificate: Certificate) -> str:
    """A step of a search in one line; only the search as a whole has a certificate."""
    verdict = "passes" if certificate.holds else "fails"
    return (
        f"tested: {plan}: {certificate.estimate:.2%} of answers changed; the test at "
        f"epsilon {certificate.epsilon:g} {verdict}"
    )
