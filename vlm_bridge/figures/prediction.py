"""The figure of each rule's scores against the measured effect of skipping a layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from estimators.rank_correlation import spearman
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.figures import axes as draw
from vlm_bridge.plan.skip_plan import SkipPlan


def plot_prediction(
    path: Path,
    scores: Mapping[str, Sequence[float]],
    modes: Mapping[str, str],
    sweep: Sequence[Comparison],
    plan: SkipPlan,
) -> Path | None:
    """Draw every rule's score of a layer against the disagreement when that layer is skipped.

    `scores` and `modes` map a rule to its score per layer (lower is safer) and its mode; rules
    without a mode of single layers are left out. Layers of `plan` are filled if the modes agree.
    """
    panels = []
    for rule, row in scores.items():
        placed = draw.by_position(sweep, modes[rule]) if modes.get(rule) in draw.MODE_STYLES else []
        points = [
            (at, float(row[at]), comparison.disagreement)
            for at, comparison in placed
            if at < len(row) and math.isfinite(row[at])
        ]
        if len(points) >= 3:
            panels.append((rule, modes[rule], points))
    if not panels:
        return None
    rows = math.ceil(len(panels) / 2)
    figure, grid = draw.panels_figure(rows, min(2, len(panels)), height=3.9 * rows + 0.5)
    for ax, (rule, mode, points) in zip(draw.flat(grid), panels, strict=False):
        colour, marker = draw.MODE_STYLES[mode]
        x = [score for _, score, _ in points]
        values = [estimate for _, _, estimate in points]
        y, low, high = draw.with_ends(values, 0.0, 1.0)
        ax.vlines(x, low, high, color=colour, alpha=0.3, lw=1, label=draw.with_level("", values[0]))
        chosen = draw.skipped_layers(plan) if plan.mode == mode else ()
        for name, filled in (("layer (0-based number)", False), ("layer of the plan", True)):
            drawn = [i for i, (at, _, _) in enumerate(points) if (at in chosen) == filled]
            if drawn:
                xs, ys, face = [x[i] for i in drawn], y[drawn], colour if filled else "white"
                ax.plot(xs, ys, marker, ms=5, mec=colour, mfc=face, label=name)
        if max(x) > 0 and min(x) >= 0:
            least = min(score for score in x if score > 0)
            linear = {"linthresh": least} if min(x) == 0 else {}
            ax.set_xscale("symlog" if linear else "log", **linear)
            ax.xaxis.set_major_formatter(FuncFormatter(draw.plain))
            ax.xaxis.set_minor_formatter(NullFormatter())
            if max(x) < 100 * min(x):
                ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        draw.share_axis(ax)
        ax.set_xlabel(f"score of {rule} (its own unit; lower = safer)")
        ax.set_ylabel(f"measured disagreement, one layer: {mode}\n(% of first answer tokens)")
        rho = spearman(x, y)
        text = "undefined" if math.isnan(rho) else f"{rho:.2f}".replace("-", "−")
        draw.title(ax, f"{rule}: Spearman ρ = {text}, n = {len(points)} layers")
    draw.legend(figure, grid)
    figure.canvas.draw()  # positions are final from here on
    for ax, (_, _, points) in zip(draw.flat(grid), panels, strict=False):
        _label(ax, [(score, estimate.value, str(at)) for at, score, estimate in points])
    return draw.save(figure, path)


def _label(ax: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Write each point's name beside it where it covers least; sizes in typographic points."""
    at = ax.transData.transform([(x, y) for x, y, _ in points]) * 72 / draw.DPI
    boxes = [(cx - 3, cy - 3, cx + 3, cy + 3) for cx, cy in at]
    for (x, y, name), (cx, cy) in zip(points, at, strict=True):
        width, height = 4.8 * len(name) + 2.5, 8.0
        best, least, chosen = (0.0, 0.0), math.inf, boxes[0]
        for radius in (8.0, 13.0, 19.0):
            for turn in (1, 3, 0, 2, 5, 7, 4, 6):
                dx = radius * math.cos(turn * math.pi / 4)
                dy = radius * math.sin(turn * math.pi / 4)
                left, bottom = cx + dx - width / 2, cy + dy - height / 2
                box = (left, bottom, left + width, bottom + height)
                covered = sum(_overlap(box, taken) for taken in boxes) + radius / 20
                if covered < least:
                    best, least, chosen = (dx, dy), covered, box
        boxes.append(chosen)
        far = math.hypot(*best) > 10
        note = ax.annotate(
            name,
            (x, y),
            best,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=7.5,
            color=draw.INK,
            arrowprops={"arrowstyle": "-", "lw": 0.5, "color": draw.GREY} if far else None,
        )
        note.set_in_layout(False)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    wide = min(a[2], b[2]) - max(a[0], b[0])
    tall = min(a[3], b[3]) - max(a[1], b[1])
    return wide * tall if wide > 0 and tall > 0 else 0.0
