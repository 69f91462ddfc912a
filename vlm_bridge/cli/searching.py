"""`skipit search`: from many candidates to the largest certified plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from vlm_bridge.cli.options import DataOptions, Epsilon, ModelOptions
from vlm_bridge.cli.output import save, say
from vlm_bridge.cli.rule_options import RuleMode, RuleName
from vlm_bridge.errors import BridgeError
from vlm_bridge.rules import Evidence, find_rule, nested_plans
from vlm_bridge.runtime.files import check_writable
from vlm_bridge.selection import bands, greedy_plans
from vlm_bridge.selection import search as run_search

HOW = ("nested", "greedy", "bands")


def search(
    model: ModelOptions,
    data: DataOptions,
    certification: Annotated[
        str, typer.Option(help="Questions that certify, named as --data; no image in both.")
    ],
    how: Annotated[
        str,
        typer.Option(
            help="Candidates: 'nested' plans of the rule, 'greedy' growth by measured divergence, "
            "or all contiguous 'bands' of layers that vision may live in (no rule)."
        ),
    ] = "nested",
    rule: RuleName = "skip-it",
    mode: RuleMode = None,
    step: Annotated[int, typer.Option(min=1, help="bands: every so many depths.")] = 1,
    epsilon: Epsilon = 0.02,
    delta: Annotated[float, typer.Option(help="Chance the promise may be wrong.")] = 0.05,
    out: Annotated[
        Path, typer.Option(help="Folder for search.json, plan.json, checkpoints.")
    ] = Path("out/search"),
) -> None:
    """The largest plan whose disagreement is certified, the search paid for. Resumable.

    --data ranks the candidates; a few of them, the safest first, are then tested in sequence on
    the certification images, each at the full delta, up to the first that fails. So the promise
    holds with probability 1 - delta whatever the number of candidates. No labels.

    Example: `skipit search reference --data easy-vqa:tuning --certification easy-vqa:certification`
    """
    check_writable(out / "search.json")
    if how not in HOW:
        raise BridgeError(f"unknown --how '{how}'; choose from {', '.join(HOW)}")
    tuning, judges = data.items(), replace(data, data=certification).items()
    vlm = model.load()
    found_rule = find_rule(rule)
    evidence = Evidence(vlm, tuning, batch_size=data.batch_size)
    if how == "bands":
        candidates = bands(vlm.layout.n_layers, step=step)
    elif how == "greedy":
        candidates = greedy_plans(found_rule, evidence, mode or found_rule.modes[0])
    else:
        candidates = nested_plans(found_rule, evidence, mode)
    found = run_search(
        vlm,
        candidates,
        tuning,
        judges,
        epsilon=epsilon,
        delta=delta,
        batch_size=data.batch_size,
        checkpoint=out / "checkpoints",
    )
    save(out / "search.json", found.to_json())
    save(out / "plan.json", found.plan.to_json())
    for step_taken, certificate in zip(found.path, found.certificates, strict=False):
        say(f"{step_taken.plan.describe()}: {certificate.sentence()}")
    if found.certificate is None:
        say(f"nothing could be certified at epsilon {epsilon}: {out}/search.json")
    else:
        say(f"certified: {found.plan.describe()}: {found.certificate.sentence()}: {out}/plan.json")
