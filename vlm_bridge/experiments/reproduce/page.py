"""Markdown page of a reproduction: published and measured values, and plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from theory.certificates.certificate import changed_things, unspoken
from vlm_bridge.experiments.reproduce.published import Published
from vlm_bridge.experiments.reproduce.run import Reproduction
from vlm_bridge.figures.layers import plot_depth, plot_layers, plot_profile
from vlm_bridge.figures.markdown import table
from vlm_bridge.figures.numbers import ranged
from vlm_bridge.runtime.files import write_bytes


def write_reproduction(result: Reproduction, published: Published, folder: Path) -> list[str]:
    """Write `reproduction.md` and its plots into `folder`; return the lines of the page."""
    lines = lines_of(result, published)
    plan = result.own_plan.plan
    plot_profile(folder / "profile.png", result.profile, None, plan)
    plot_depth(folder / "depth.png", result.sweep, blind=None, no_vision=None)
    plot_layers(folder / "layers.png", result.sweep, plan, epsilon=0.02)
    plots = [f"![{name}]({name}.png)" for name in ("profile", "depth", "layers")]
    write_bytes(folder / "reproduction.md", "\n".join([*lines, "", *plots, ""]).encode())
    return lines


def lines_of(result: Reproduction, published: Published) -> list[str]:
    """The table of published and measured values."""
    n, size = len(result.shortv_kl), len(result.own_plan.plan.layers)
    order = _layers(result.shortv_order[:size])
    rows = [("layers frozen first (ShortV)", _layers(published.shortv_order), order)]
    if (sets := result.overlap) is not None and result.order_agreement is not None:
        jaccard = (
            f"Jaccard {sets.jaccard:.2f} (by chance {sets.expected:.2f}, p = "
            f"{sets.p_permutation:.2g}; rotated p = {sets.p_rotation:.2g})"
        )
        spearman = f"Spearman {result.order_agreement:.2f}"
        rows.append((f"the same {sets.size} of {n} layers", "-", jaccard))
        rows.append(("order of the published layers", "-", spearman))
    depth, here = published.vtw_depth, result.vtw_depth
    eta = "" if published.vtw_eta is None else f" at {published.vtw_eta:g} nats"
    reported = ("not reported" if depth is None else f"layer {depth}") + eta
    measured = "no depth is below the threshold" if here is None else f"layer {here}"
    rows.append(("vision leaves at (VTW)", reported, measured))
    for name, tested in (("published", result.published_plan), ("own", result.own_plan)):
        if tested is not None:
            drop = "" if tested.drop is None else f", drop {ranged(tested.drop)}"
            things, limit = changed_things(tested.max_new_tokens), tested.max_new_tokens
            label = f"{things} changed by the {name} {len(tested.plan.layers)} layers frozen"
            rest = unspoken(limit, tested.share_at_limit)
            rows.append((label, "-", f"{ranged(tested.disagreement)}{drop}{rest}"))
    cost = f"prefill FLOPs {result.flops_ratio:.2f}, latency {result.latency_ratio:.2f}"
    rows.append(("cost of the own plan, frozen/full", "-", cost))
    heading = f"# {result.name}, run as {result.model}"
    images = (
        f"Orders of first answer tokens from {result.n_profiling} images, tested on "
        f"{result.n_images} others."
    )
    head = [heading, "", f"{images} Intervals are by image.", ""]
    lines = [*head, *table(["quantity", "published", "here"], rows)]
    if not published.shortv_order:
        lines += ["", "No order and no depth is published for this model: nothing to compare with."]
    return lines


def _layers(order: Sequence[int]) -> str:
    return ", ".join(map(str, order)) or "not reported"
