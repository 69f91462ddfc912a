"""`skipit search`: the largest plan whose disagreement is certified."""

from __future__ import annotations

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
from vlm_bridge.cli.planning import RuleName
from vlm_bridge.data import unit_word
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS
from vlm_bridge.evaluate.spending import reach_of_search
from vlm_bridge.plan.modes import RULE_MODES
from vlm_bridge.plan.stacks import DECODER
from vlm_bridge.rules import (
    Evidence,
    check_stack,
    find_rule,
    nested_plans,
)
from vlm_bridge.rules.scores import RuleScores
from vlm_bridge.runtime.distributed import is_main
from vlm_bridge.runtime.files import check_writable, read_record
from vlm_bridge.selection import bands, greedy_plans
from vlm_bridge.selection import search as run_search
from vlm_bridge.selection.certified import check_splits
from vlm_bridge.selection.chains import check_chains

HOW = ("nested", "greedy", "bands")
#: File of the scores of the rule.
SCORES = "scores.json"
RuleModes = Annotated[
    list[str] | None,
    Option(
        help=f"Repeatable, mode of the rule: {', '.join(RULE_MODES)} (default: its first that the "
        "model has)."
    ),
]


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
    mode: RuleModes = None,
    profile: Annotated[
        Path | None,
        Option(help="From `skipit profile`, for the rule (default: measured on --data)."),
    ] = None,
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
    would take. Writes search.json, scores.json (what the rule says of every unit) and, if a plan is
    certified, plan.json. With several --mode the plans of all are candidates. With --check the exit
    code is 1 if no plan is certified.

    With --adaptive every candidate is tried with thresholds of its signals: answers below go on, to
    the next plan of a chain of at most --gates, at last to the full model. Certified is the
    cheapest of these in expected prefill FLOPs, and adaptive.json and front.png are written in
    place of plan.json. With --over token a threshold judges every token of an answer by itself;
    the cheapest plan is then the one with the least work of passes behind the prompt.

    Example: `skipit search reference --data easy-vqa:tuning --certification easy-vqa:certification`

    Example: `skipit search reference-captions --adaptive --over token --rule skip-it-slopes --mode
    block --data descriptions:tuning --certification descriptions:certification --limit 100
    --epsilon 0.2`

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
        check_by_token(over, signal or ["margin"], gates, chosen_rule, mode or [])
    measured = None if profile is None else read_record(profile, Profile, "profile")
    tuning, certifying = data.items(), replace(data, data=certification).items()
    check_splits(tuning, certifying)
    if data.limit is not None:
        n, m = (len({item.cluster for item in each}) for each in (tuning, certifying))
        cut = f"--limit {data.limit} cuts both sets: {n} {unit_word(tuning, n)} of --data"
        note(f"{cut} and {m} of --certification")
    vlm = model.load()
    note(reach_of_search(ledger, vlm, certifying, epsilon=epsilon, delta=delta)[0])
    modes: list[str | None] = list(dict.fromkeys(mode)) if mode else [None]
    evidence = Evidence(vlm, tuning, measured, batch_size=data.batch_size, stack=stack)
    scores: RuleScores | None = None
    if how == "bands":
        if stack != DECODER:
            raise BridgeError("--how bands searches layers of the decoder; leave --stack out")
        candidates = bands(vlm.layout.n_layers, step=step)
    else:
        plans_of = greedy_plans if how == "greedy" else nested_plans
        candidates = [plan for each in modes for plan in plans_of(chosen_rule, evidence, each)]
        scores = RuleScores.of(chosen_rule, evidence, modes)
    wanted: Any = {"epsilon": epsilon, "delta": delta, "ledger": ledger}
    wanted |= {"batch_size": data.batch_size, "max_new_tokens": max_new_tokens}
    split = (vlm, tuning, certifying, candidates)

    def keep(result: Any) -> Any:
        """Write the scores beside the main file, which comes first."""
        if scores is not None:
            save(out / SCORES, scores.to_json())
        return result

    if adaptive:
        wanted |= {"signals": signal or ["margin"], "check": check, "out": out}
        if over == "token":
            return keep(search_tokens(*split, **wanted))
        return keep(search_adaptive(*split, **wanted, over=over, gates=gates))
    certified = run_search(*split, **wanted, checkpoint=out / "checkpoints")
    result, words = keep(save(out / "search.json", certified.to_json())), vlm.layout.modality
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
