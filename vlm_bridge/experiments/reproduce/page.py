"""A reproduction for people: a table of what was published beside what came out, and plots."""

from __future__ import annotations

from pathlib import Path

from vlm_bridge.experiments.reproduce.published import Published
from vlm_bridge.experiments.reproduce.run import Reproduction
from vlm_bridge.figures.layers import plot_depth, plot_layers, plot_profile
from vlm_bridge.figures.numbers import ranged
from vlm_bridge.runtime.files import write_bytes


def write_reproduction(found: Reproduction, published: Published, folder: Path) -> list[str]:
    """Write `reproduction.md` and its plots into `folder`; returns the table's lines.

    Args:
        found: the result.
        published: the entry it was run for.
        folder: where the files go.
    """
    lines = lines_of(found, published)
    plot_profile(folder / "profile.png", found.profile, None, found.own_plan.plan)
    plot_depth(folder / "depth.png", found.sweep, blind=None, no_vision=None)
    plot_layers(folder / "layers.png", found.sweep, found.own_plan.plan, epsilon=0.02)
    plots = [f"![{name}]({name}.png)" for name in ("profile", "depth", "layers")]
    write_bytes(folder / "reproduction.md", "\n".join([*lines, "", *plots, ""]).encode())
    return lines


def lines_of(found: Reproduction, published: Published) -> list[str]:
    """The table, published values beside those measured here."""
    n = len(found.shortv_kl)
    lines = [
        f"# {found.name}, run as {found.model}",
        "",
        f"Orders from {found.n_profiling} images, tested on {found.n_images} others. Intervals are "
        "by image.",
        "",
        "| what | published | here |",
        "|---|---|---|",
        f"| layers frozen first (ShortV) | {_layers(published.shortv_order)} "
        f"| {_layers(found.shortv_order[: len(found.own_plan.plan.layers)])} |",
    ]
    if found.overlap is not None and found.order_agreement is not None:
        one = found.overlap
        lines.append(
            f"| the same {one.size} of {n} layers | - | Jaccard {one.jaccard:.2f} (by chance "
            f"{one.expected:.2f}, p = {one.p_permutation:.2g}; rotated p = {one.p_rotation:.2g}) |"
        )
        lines.append(
            f"| order of the published layers | - | Spearman {found.order_agreement:.2f} |"
        )
    depth, here = published.vtw_depth, found.vtw_depth
    eta = "" if published.vtw_eta is None else f" at {published.vtw_eta:g} nats"
    lines.append(
        f"| vision leaves at (VTW) | {'not reported' if depth is None else f'layer {depth}'}{eta} "
        f"| {'no depth is below the threshold' if here is None else f'layer {here}'} |"
    )
    for name, tested in (("published", found.published_plan), ("own", found.own_plan)):
        if tested is None:
            continue
        drop = "" if tested.drop is None else f", drop {ranged(tested.drop)}"
        lines.append(
            f"| answers changed by the {name} {len(tested.plan.layers)} layers frozen | - "
            f"| {ranged(tested.disagreement)}{drop} |"
        )
    lines.append(
        f"| cost of the own plan, frozen/full | - | prefill FLOPs {found.flops_ratio:.2f}, latency "
        f"{found.latency_ratio:.2f} |"
    )
    if not published.shortv_order:
        lines += ["", "No order and no depth is published for this model: nothing to compare with."]
    return lines


def _layers(order: tuple[int, ...] | list[int]) -> str:
    return ", ".join(map(str, order)) or "not reported"
