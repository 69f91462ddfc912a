"""A profile with chosen values, without a model."""

from __future__ import annotations

import numpy as np

from estimators import Estimate, Profile


def made_profile(n=4, *, image, text_var=None, text=None, tail=None) -> Profile:
    """A profile with chosen means: the formulas of rules are checked on it by hand."""

    def estimates(values):
        return tuple(
            Estimate(
                value=float(v),
                interval=(float(v), float(v)),
                n=9,
                d=1,
                unit="1",
                method="made",
                reliable=True,
                reason="",
            )
            for v in values
        )

    tails = np.zeros((n, 9)) if tail is None else np.repeat(np.array(tail)[:, None], 9, axis=1)
    return Profile(
        model="made",
        n_layers=n,
        groups=("image", "text"),
        measures={
            "image": {"cosine_distance": estimates(image)},
            "text": {
                "cosine_distance": estimates(text or [0.1] * n),
                "var": estimates(text_var or [0.5] * n),
            },
        },
        tail_grid=(0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1.0),
        tails={"image": tuple(estimates(row) for row in tails)},
        quantile_levels=(),
        quantiles={},
        n_images=9,
        n_rows={"image": 300, "text": 100},
        data_hash="h",
    )
