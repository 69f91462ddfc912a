"""`skipit certify`, `compare` and `sweep`: plans beside the full model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from typer import Option

from theory.certificates import what_it_takes
from vlm_bridge.cli.as_json import CheckFailed
from vlm_bridge.cli.joint import check_forms, growing, of_risks, one_scorer, per_group
from vlm_bridge.cli.model import cost_lines
from vlm_bridge.cli.options import (
    Check,
    DataOptions,
    Delta,
    Epsilon,
    LedgerOptions,
    MaxNewTokens,
    ModelOptions,
    Pairs,
    PlanWords,
    StackName,
)
from vlm_bridge.cli.output import note, resumable, save, say
from vlm_bridge.cli.tables import sweep_lines
from vlm_bridge.cost import measure_cost
from vlm_bridge.data import unit_word
from vlm_bridge.evaluate.answered_items import write_answered
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS
from vlm_bridge.evaluate.certify import certify_both, check_certifiable, reach_of_both
from vlm_bridge.evaluate.compare import Comparison, check_images
from vlm_bridge.evaluate.compare_answers import compare_answers
from vlm_bridge.evaluate.full_answers import DECISION
from vlm_bridge.evaluate.joint import GROUPINGS
from vlm_bridge.evaluate.paired import paired_answers
from vlm_bridge.evaluate.reach import METHODS, check_method
from vlm_bridge.evaluate.scorers import find_scorer, find_scorers
from vlm_bridge.evaluate.sweep import SWEPT, sweep_plans
from vlm_bridge.evaluate.sweep import sweep as run_sweep
from vlm_bridge.figures.layers import plot_depth, plot_layers
from vlm_bridge.plan.modes import RULE_MODES, lacking
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.stacks import DECODER
from vlm_bridge.runtime.distributed import is_main
from vlm_bridge.runtime.files import check_writable


def certify(
    model: ModelOptions,
    plan: PlanWords,
    data: DataOptions,
    spending: LedgerOptions,
    epsilon: Epsilon = 0.02,
    delta: Delta = 0.05,
    method: Annotated[str, Option(help=f"{', '.join(METHODS)}.")] = "auto",
    max_new_tokens: MaxNewTokens = MAX_NEW_TOKENS,
    per: Annotated[
        str | None,
        Option(help=f"Certify each kind of question, jointly: by {' or '.join(GROUPINGS)}."),
    ] = None,
    risks: Annotated[
        str | None,
        Option(
            help="Certify several risks, jointly, by their limits: "
            "disagreement=0.02,accuracy_drop=0.02,length_change=0.05."
        ),
    ] = None,
    anytime: Annotated[
        bool,
        Option("--anytime", help="Ask image after image until the certificate holds, then stop."),
    ] = False,
    scorer: Annotated[
        list[str] | None,
        Option(help="Once: the score whose mean may drop (`skipit scorers`; default: exact)."),
    ] = None,
    check: Check = False,
    out: Annotated[Path, Option(help="JSON to write.")] = Path("out/certificates.json"),
) -> Any:
    """Bound disagreement and accuracy drop of a plan. Resumable.

    An answer is the greedy text up to --max-new-tokens tokens; an answer is right if it equals the
    label but for case, Unicode form, articles, and marks at its ends. First prints, on standard
    error, which epsilon these images can reach at best; after a failure, how many images it would
    take. The images must not be those that chose, tuned or certified the plan.

    A ledger keeps certificates honest over many commands: choosing the best of 20 certificates on
    the same images would be wrong far more often than one. It is charged delta for each of the two
    certificates.

    The bound of the drop needs some labels (method auto: it is at most that of the disagreement); a
    question without a label counts as lost if its answer changes. The exit code is 0 whether or not
    the certificates hold, with --check 1 unless all hold. `torchrun` distributes the batches over
    its processes.

    --scorer bounds the drop of the mean of another score, such as anls, which lies in [0, 1] and
    depends on one question alone.

    --per and --risks bound several things at one delta. --anytime asks the images in a random order
    that their identities decide, whatever the order of the file, and looks after every 50; run
    again with more images, it continues from --out, and the ledger is charged once. The images of
    each run must be a random sample: --limit takes the first of the file, so not of a sorted one.

    Example: `skipit certify reference out/plan.json --data easy-vqa:certification`

    Example: `skipit certify reference out/plan.json --data easy-vqa:certification --per opening`
    """
    check_method(method)
    name = one_scorer(scorer)
    check_forms(per, risks, anytime, method, name)
    score = find_scorer(name)
    items, ledger = data.items(), spending.beside(out)
    vlm, skip_plan = model.load_with(plan)
    check_certifiable(vlm, skip_plan, items)
    wanted: Any = {
        "epsilon": epsilon,
        "delta": delta,
        "method": method,
        "batch_size": data.batch_size,
        "max_new_tokens": max_new_tokens,
        "ledger": ledger,
        "scorer": score,
    }
    if per or risks or anytime:
        del wanted["method"], wanted["scorer"]
        if per:
            result, held = per_group(vlm, items, skip_plan, per, out, wanted)
        elif risks:
            result, held = of_risks(vlm, items, skip_plan, risks, out, wanted)
        else:
            result, held = growing(vlm, items, skip_plan, out, wanted)
        say(f"certificates: {out}")
        if check and not held:
            raise CheckFailed(result)
        return result
    note(reach_of_both(vlm, items, skip_plan, **wanted).sentence())
    with resumable(out) as checkpoint:
        certificates = certify_both(vlm, items, skip_plan, checkpoint=checkpoint, **wanted)
        result = save(out, [certificate.to_json() for certificate in certificates])
    for certificate in certificates:
        say(certificate.sentence())
        if not certificate.holds:
            say(what_it_takes(certificate))
    if len(certificates) == 1:
        say("no accuracy drop: no question has a label (--method label-free needs none)")
    say(f"certificates: {out}")
    if check and not all(certificate.holds for certificate in certificates):
        raise CheckFailed(result)
    return result


def compare(
    model: ModelOptions,
    plan: PlanWords,
    data: DataOptions,
    max_new_tokens: MaxNewTokens = MAX_NEW_TOKENS,
    pairs: Pairs = 15,
    scorer: Annotated[
        list[str] | None,
        Option(help="Repeatable: a score of the answers (`skipit scorers`; default: exact)."),
    ] = None,
    items: Annotated[
        Path | None, Option(help="JSONL to write: every question, both answers, their scores.")
    ] = None,
    out: Annotated[Path, Option(help="JSON to write.")] = Path("out/comparison.json"),
) -> Any:
    """Compare a plan with the full model: answers and cost. Resumable.

    Accuracy, drop and disagreement of greedy answers up to --max-new-tokens tokens, word error
    rates if the labels are transcripts (question "what is said?"), and KL of the first answer
    token; FLOPs, latency, memory of one batch; every --scorer; a table of what changes in the
    first 1, 4, 16, 64 tokens and so on, whose column `longer` is the share of the full model's
    answers that go on after them; tokens per second over whole answers of all batches but the
    first, which warms up.

    Example: `skipit compare reference out/plan.json --data easy-vqa:test`

    Example: `skipit compare reference out/plan.json --data mine.jsonl --max-new-tokens 256 --scorer
    rouge-l --items out/answers.jsonl`
    """
    if items is not None:
        check_writable(items)
    scores = find_scorers(scorer or ["exact"])
    questions = data.items()
    for score in scores:
        score.of(questions)  # refuses what it cannot score before any answer
    vlm, skip_plan = model.load_with(plan)
    check_images(questions)
    size = data.batch_size
    sizes: Any = {"batch_size": size, "max_new_tokens": max_new_tokens}
    with resumable(out) as checkpoint:
        said = paired_answers(vlm, questions, skip_plan, checkpoint=checkpoint, **sizes)
        compared = Comparison.of(skip_plan, said.outcomes(), DECISION, vlm)
        more = compare_answers(said, scores)
        cost = measure_cost(vlm, questions, skip_plan, batch_size=size, pairs=pairs)
        parts = {"comparison": compared, "answers": more, "cost": cost}
        result = save(out, {name: part.to_json() for name, part in parts.items()})
        if items is not None and is_main():
            write_answered(items, said, scores)
    say(f"{skip_plan.describe(vlm.layout.modality)}: {compared}")
    for line in (*more.lines(), *cost_lines(cost), f"comparison: {out}"):
        say(line)
    if items is not None:
        say(f"answers: {items}")
    return result


def sweep(
    model: ModelOptions,
    data: DataOptions,
    out: Annotated[Path, Option(help="Folder of results and plots.")] = Path("out/sweep"),
    step: Annotated[int, Option(min=1, help="Step between layers and depths.")] = 1,
    epsilon: Epsilon = 0.02,
    mode: Annotated[
        list[str] | None,
        Option(
            help=f"Repeatable: {', '.join(RULE_MODES)} (default: {', '.join(SWEPT)}; "
            "of a text-only model block)."
        ),
    ] = None,
    stack: StackName = DECODER,
) -> Any:
    """Skip each layer alone, and try each exit and entry. Resumable.

    Compares the first answer token, and nothing after it. Prints a line for each plan, and draws
    them by layer and depth.

    A killed run continues after the last finished batch when the same command is given again.
    `torchrun` distributes the batches over its processes.

    Example: `skipit sweep reference --data easy-vqa:test --limit 100 --out out/sweep`
    """
    check_writable(out / "sweep.json")
    items = data.items()
    vlm = model.load()
    n_layers = vlm.layout.depth(stack)
    held = vlm.layout.modality if stack == DECODER else ""
    usable = [name for name in SWEPT if not lacking(name, held)]
    plans = sweep_plans(n_layers, step=step, modes=mode or usable, stack=stack)
    checkpoint = out / "checkpoint.jsonl"
    compared = run_sweep(vlm, items, plans, checkpoint=checkpoint, batch_size=data.batch_size)
    result = save(out / "sweep.json", [comparison.to_json() for comparison in compared])
    if is_main():
        plot_depth(out / "depth.png", compared, blind=None, no_vision=None)
        whole = SkipPlan("block", n_layers, stack=stack)
        plot_layers(out / "layers.png", compared, whole, epsilon)
    for line in sweep_lines(compared, held):
        say(line)
    on = len({item.cluster for item in items})
    say(f"{len(compared)} plans on {on} {unit_word(items, on)}: {out}/sweep.json")
    return result
