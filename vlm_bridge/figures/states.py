"""The figure of a profile of hidden states: every measure against the layer."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from estimators import Profile
from vlm_bridge.figures import axes as draw

_COLOURS = (draw.BLUE, draw.VERMILLION, draw.GREEN, draw.PURPLE, draw.INK)
_ANY = (-math.inf, math.inf)
#: Measure -> title of its panel, label of its axis, range of its interval.
_PANELS = {
    "cosine_distance": ("change of direction in the layer", "cosine distance, 1 − cos", (0, 2)),
    "norm_ratio": ("growth in the layer", "|output| / |input|", (0, math.inf)),
    "relative_update_norm": ("size of the update", "|output − input| / |input|", (0, math.inf)),
    "cka": ("likeness of output and input", "debiased linear CKA", (-0.2, 1.2)),
    "mutual_information": ("information about the target", "I(output; target), nats", _ANY),
    "usable_information": (
        "usable information about the target",
        "I_V(output → target), nats",
        _ANY,
    ),
}


def plot_states(path: Path, profile: Profile) -> Path:
    """Draw a panel for each measure of the profile, a line for each token group.

    `profile` is from `estimators.profile_states`. Open markers are unreliable estimates.
    """
    measures = [m for m in _PANELS if any(m in profile.measures[g] for g in profile.groups)]
    rows = math.ceil(len(measures) / 2)
    figure, grid = draw.panels_figure(rows, 2, height=2.6 * rows + 0.6)
    for ax, measure in zip(draw.flat(grid), measures, strict=False):
        text, label, bounds = _PANELS[measure]
        for place, group in enumerate(profile.groups):
            if measure not in profile.measures[group]:
                continue
            colour = _COLOURS[place % len(_COLOURS)]
            estimates = profile.estimates(group, measure)
            values, low, high = draw.with_ends(estimates, *bounds)
            finite = np.isfinite(low) & np.isfinite(high)
            layers = np.arange(profile.n_layers)
            ax.fill_between(layers, low, high, where=finite, color=colour, alpha=0.25, lw=0)
            name = draw.with_level(f"{group} rows", estimates[0])
            ax.plot(layers, values, color=colour, lw=1.6, label=name)
            for reliable, face in ((True, colour), (False, "white")):
                drawn = [i for i, e in enumerate(estimates) if e.reliable is reliable]
                ax.plot(layers[drawn], values[drawn], "o", color=colour, mfc=face, ms=4)
        ax.set_ylabel(label)
        draw.title(ax, text)
        draw.layer_axis(ax, profile.n_layers)
    draw.legend(figure, grid)
    return draw.save(figure, path)
