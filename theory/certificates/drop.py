"""A certificate of the accuracy drop that is never looser than the one without labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators import cluster_means
from estimators.bounded_mean import dominated_upper_bound
from estimators.clustered import Labels
from theory._validate import check_array, check_text
from theory.certificates.certificate import Certificate, check_request
from theory.certificates.certify import as_sample, assumed, certify_mean

Floats = NDArray[np.float64]


def certify_drop(
    drop: ArrayLike,
    changed: ArrayLike,
    clusters: Labels,
    *,
    epsilon: float,
    delta: float,
    method: str = "auto",
    seed: int = 0,
    data_hash: str = "",
    plan_hash: str = "",
    unit_word: str = "image",
) -> Certificate:
    """Certify that the mean accuracy drop over images is at most epsilon, with all of delta.

    A drop is at most the disagreement, question by question, so taking the smaller of two bounds
    looks free; but each bound may fail, and the smaller one fails with up to 2 delta. Here one
    bound at level delta uses the labels, and on the same answers it cannot exceed the bound of the
    disagreement by the method in brackets:

        harm               Clopper-Pearson on the answers that change from right to wrong, which are
                           some of those that change (clopper-pearson)
        betting            `estimators.bounded_mean.dominated_upper_bound`: the capital
                           prod_i (1 + lambda_i(m) (m - x_i)), with x_i the mean drop of image i and
                           the bets lambda_i of the disagreement. They depend on earlier images
                           alone, and since x_i <= d_i the capital is never below that of the
                           disagreement (betting)
        hoeffding, hoeffding-bentkus
                           the bound of the mean harm max(x, 0), in [0, 1] (the same)
        empirical-bernstein
                           of the mean harm too, without that guarantee
        auto               harm for one question per image, else betting (auto)

    A score between 0 and 1 in place of right and wrong, such as a soft accuracy, has the same
    bounds but for harm, which counts: pass "betting" for it, whatever the answers.

    Args:
        drop: array of shape (n_values,), score of the full minus score of the skipped model, in
            [-1, 1]; -1, 0 or 1 for harm. Without a label pass `changed` there, the worst case.
        changed: array of shape (n_values,): 1 where the answer changed, else 0; at least `drop`.
        clusters: the image of each value, n_values hashable labels.
        epsilon: tolerance, in (0, 1).
        delta: maximum error probability of the certificate, in (0, 1).
        method: one of the above.
        seed: fixes the value drawn from each image (harm). Choose it before inspecting the
            values.
        data_hash: stored in the certificate.
        plan_hash: stored in the certificate.
        unit_word: what a cluster is, in the singular, for the sentences of the certificate.

    Raises:
        ValueError: a drop where the answer did not change; otherwise as `certify_mean`.

    Source:
        Clopper & Pearson 1934; Waudby-Smith & Ramdas 2024, arXiv 2010.09686, section 4: any
        predictable bets are valid.

    Example:
        >>> changed, drop = [0.0] * 290 + [1.0] * 10, [0.0] * 298 + [1.0, -1.0]
        >>> print(certify_drop(drop, changed, range(300), epsilon=0.02, delta=0.05))
        accuracy drop <= 0.0158 with probability 95 % (300 images, harm): holds at epsilon 0.02;
        assuming these 300 images were not used before
    """
    x, d = check_array(drop, "drop"), check_array(changed, "changed")
    check_text(method, "method", '"auto"')
    if x.shape != d.shape:
        raise ValueError(f"drop has {x.size} values but changed has {d.size}")
    bad = np.flatnonzero(x > d)
    if bad.size:
        raise ValueError(
            f"drop[{bad[0]}] is {x[bad[0]]:g} where changed is {d[bad[0]]:g}; accuracy can fall "
            "only where an answer changes"
        )
    if method == "auto":
        method = "harm" if (cluster_means(x, clusters)[1] == 1).all() else "betting"
    check_request("accuracy_drop", epsilon, delta, method)
    by_harm = method not in ("harm", "betting")
    certificate = certify_mean(
        np.maximum(x, 0.0) if by_harm else x,
        clusters,
        quantity="disagreement" if by_harm else "accuracy_drop",
        epsilon=epsilon,
        delta=delta,
        method=method,
        seed=seed,
        data_hash=data_hash,
        plan_hash=plan_hash,
        unit_word=unit_word,
    )
    if by_harm:
        checked = (*certificate.checked, "a drop is harm minus help, so at most harm")
        return replace(certificate, quantity="accuracy_drop", checked=checked)
    if method == "harm":
        return certificate
    of: Any = {"method": "betting", "seed": seed, "unit_word": unit_word}
    lost = as_sample(x, clusters, quantity="accuracy_drop", **of)
    differ = as_sample(d, clusters, quantity="disagreement", **of)
    bound = drop_upper_bound(lost.values, differ.values, delta)
    note = "bets are those of the disagreement, so that the bound is at most the label-free one"
    return replace(
        certificate,
        bound=bound,
        holds=bound <= epsilon,
        checked=(*lost.checked, note),
        assumed=assumed(lost.values.size, unit_word),
    )


def drop_upper_bound(drop: Floats, changed: Floats, delta: float) -> float:
    """Upper confidence bound on the mean of `drop`, betting as on `changed`.

    Both are arrays of shape (n_images,) in the same order, `drop` in [-1, 1], `changed` in [0, 1]
    and nowhere below `drop`; `delta` is the error probability.

    Example:
        >>> from estimators import betting_upper_bound
        >>> changed = np.repeat([0.0, 0.5], [380, 20])
        >>> round(betting_upper_bound(changed, delta=0.05), 4)
        0.0406
        >>> round(drop_upper_bound(0 * changed, changed, 0.05), 4)
        0.0101
    """
    return dominated_upper_bound(drop, changed, delta=delta)
