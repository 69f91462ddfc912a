"""Bounds on logits and answers: margins, telescoping, logit changes, attention (S6-S8, S11)."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
from numpy.typing import ArrayLike

from theory._validate import check_counts, check_number
from theory.conditions.bound import Bound, numbers, within

_LOCAL = "the Lipschitz constants hold on the segments [g_j, h_j] for the set of skipped layers"


def margin_certificate(update_norms: ArrayLike, margins: ArrayLike, *, lipschitz: float) -> Bound:
    """Bound the share of inputs whose argmax can change: K |F(h)| < m / 2 excludes a change.

    Args:
        update_norms: array of shape (n,), |F(h)|_2 over **all** tokens, one per input.
        margins: array of shape (n,), m: largest minus second largest logit, >= 0.
        lipschitz: K >= 0, Lipschitz constant of the suffix from states (l2) to logits (l-inf).

    Returns:
        Bound on the share, unit "1"; 0 certifies that no argmax changes on these inputs.

    Raises:
        ValueError: different shapes, or a negative or non-finite number.

    Source:
        Statement S6.

    Example:
        >>> margin_certificate([0.1, 0.1, 2.0], [1.0, 0.1, 9.0], lipschitz=2.0).value
        0.3333333333333333
    """
    norms = numbers(update_norms, "update_norms", low=0.0)
    gaps = numbers(margins, "margins", low=0.0)
    if norms.shape != gaps.shape:
        raise ValueError(f"{norms.size} update norms but {gaps.size} margins")
    within(lipschitz, 0.0, math.inf, "lipschitz")
    safe = lipschitz * norms < gaps / 2.0
    return Bound(
        quantity="share of these inputs whose argmax may change",
        value=1.0 - float(safe.mean()),
        unit="1",
        statement="S6",
        checked=(f"K |F(h)| < m/2 on {int(safe.sum())} of {safe.size} inputs",),
        assumed=("the suffix is K-Lipschitz between both states, from l2 to the largest logit",),
    )


def telescoping_bound(
    update_norms: ArrayLike, lipschitz: ArrayLike, skipped: Collection[int]
) -> Bound:
    """|h_L - g_L| <= sum_{s in S} |F_s(h_s)| prod_{j > s, j not in S} (1 + lambda_j).

    One full forward pass gives the norms; the bound then covers every set of skipped layers.

    Args:
        update_norms: array of shape (L,), |F_l(h_l)|_2 over all tokens of the full pass.
        lipschitz: array of shape (L,), Lipschitz constants lambda_l >= 0 of the updates on a ball
            with the states of every skipped pass; segments of single skips are not enough.
        skipped: S, 0-based layers.

    Returns:
        Bound on the distance between the last states, unit "state".

    Raises:
        ValueError: different shapes, a negative number, or a layer out of range.

    Source:
        Statement S6.

    Example:
        >>> telescoping_bound([1.0, 1.0, 1.0], [0.5, 0.5, 0.5], {1}).value
        1.5
    """
    norms = numbers(update_norms, "update_norms", low=0.0)
    slopes = numbers(lipschitz, "lipschitz", low=0.0)
    if norms.shape != slopes.shape:
        raise ValueError(f"{norms.size} update norms but {slopes.size} Lipschitz constants")
    layers = sorted(set(check_counts(skipped, "skipped")))
    if layers and layers[-1] >= norms.size:
        raise ValueError(f"layer {layers[-1]} is out of range; there are {norms.size} layers")
    total = 0.0
    for layer in range(norms.size):
        if layer in layers:
            total += float(norms[layer])
        else:
            total *= 1.0 + float(slopes[layer])
    return Bound(
        quantity="|h_L - g_L|",
        value=total,
        unit="state",
        statement="S6",
        checked=("all norms and constants are nonnegative",),
        assumed=(_LOCAL, "the norms are those of the full pass, over all tokens"),
    )


def kl_from_logit_change(change: ArrayLike) -> Bound:
    """KL(p || p') and KL(p' || p) are at most osc(dz)^2 / 8, with osc(dz) = max dz - min dz.

    Args:
        change: array of shape (k,), dz, the change of the logits.

    Returns:
        Bound in nats.

    Raises:
        ValueError: no entries, or a number that is not finite.

    Source:
        Statement S7 (Hoeffding's lemma).

    Example:
        >>> kl_from_logit_change([0.5, -0.5, 0.0]).value
        0.125
    """
    return Bound(
        quantity="KL divergence between the answers, in both directions",
        value=_oscillation(change) ** 2 / 8.0,
        unit="nats",
        statement="S7",
        checked=("all changes are finite",),
    )


def tv_from_logit_change(change: ArrayLike) -> Bound:
    """TV(p, p') <= tanh(osc(dz) / 4).

    Args:
        change: array of shape (k,), the change of the logits.

    Returns:
        Bound on a probability, unit "1".

    Raises:
        ValueError: as `kl_from_logit_change`.

    Source:
        Statement S7.

    Example:
        >>> round(tv_from_logit_change([1.0, 0.0]).value, 4)
        0.2449
    """
    return Bound(
        quantity="total variation between the answers",
        value=math.tanh(_oscillation(change) / 4.0),
        unit="1",
        statement="S7",
        checked=("all changes are finite",),
    )


def log_prob_change_from_logit_change(change: ArrayLike) -> Bound:
    """|log p_i - log p'_i| <= osc(dz) for every class i.

    Args:
        change: array of shape (k,), the change of the logits.

    Returns:
        Bound in nats.

    Raises:
        ValueError: as `kl_from_logit_change`.

    Source:
        Statement S7.

    Example:
        >>> log_prob_change_from_logit_change([1.0, 0.0]).value
        1.0
    """
    return Bound(
        quantity="change of any log-probability",
        value=_oscillation(change),
        unit="nats",
        statement="S7",
        checked=("all changes are finite",),
    )


def removal_bound_from_var(var: float, *, diameter: float) -> Bound:
    """Removing the vision keys changes the output of a head by a |o_V - o_T| <= a diam(values).

    Args:
        var: a, attention mass of the query on visual keys, in [0, 1).
        diameter: largest distance between two value vectors, >= 0.

    Returns:
        Bound on the norm of the change of the output, unit "state".

    Raises:
        ValueError: a mass outside [0, 1) or a negative diameter.

    Source:
        Statement S8. A small mass is sufficient, not necessary (O2).

    Example:
        >>> removal_bound_from_var(0.25, diameter=2.0).value
        0.5
    """
    if not 0.0 <= check_number(var, "var") < 1.0:
        raise ValueError(f"var must lie in [0, 1), got {var}")
    within(diameter, 0.0, math.inf, "diameter")
    return Bound(
        quantity="change of the head's output",
        value=var * diameter,
        unit="state",
        statement="S8",
        checked=("other keys have positive attention mass",),
        assumed=("the weights are a softmax over vision and other keys",),
    )


def exit_bound_from_var(
    var: ArrayLike, diameters: ArrayLike, output_norms: ArrayLike, lipschitz: ArrayLike
) -> Bound:
    """Bound the change of the last state by early exit: S8 per head, propagated as in S6.

        |h_L - g_L| <= sum_j  sum_i a_ji diam_ji |W_ji|  prod_{k > j} (1 + lambda_k)

    Rows are the layers from the exit on, attention and MLP separate; MLP rows have diameters 0.

    Args:
        var: array of shape (layers, heads), mass on visual keys in the full pass, in [0, 1).
        diameters: array of shape (layers, heads), diameters of the values in the full pass.
        output_norms: array of shape (layers, heads), spectral norms of the output projections.
        lipschitz: array of shape (layers,), constant >= 0 of each update **without vision**.

    Returns:
        Bound on the distance between the last states of the query, unit "state".

    Raises:
        ValueError: different shapes, or a number out of range.

    Source:
        Statement S8c.

    Example:
        >>> exit_bound_from_var([[0.5], [0.0]], [[2.0], [0.0]], [[1.0], [1.0]], [0.1, 1.0]).value
        2.0
    """
    mass = numbers(var, "var", low=0.0, high=np.nextafter(1.0, 0.0), ndim=2)
    diameter = numbers(diameters, "diameters", low=0.0, ndim=2)
    norm = numbers(output_norms, "output_norms", low=0.0, ndim=2)
    slopes = numbers(lipschitz, "lipschitz", low=0.0)
    shapes = {mass.shape, diameter.shape, norm.shape, (slopes.size, mass.shape[1])}
    if len(shapes) != 1:
        raise ValueError(f"shapes do not match: {sorted(shapes)}")
    total = 0.0
    for change, slope in zip((mass * diameter * norm).sum(axis=1), slopes, strict=True):
        total = total * (1.0 + float(slope)) + float(change)
    return Bound(
        quantity="|h_L - g_L| of the query",
        value=total,
        unit="state",
        statement="S8c",
        checked=("all masses are below 1",),
        assumed=(_LOCAL,),
    )


def drop_bound_from_disagreement(disagreement: float) -> Bound:
    """acc(full) - acc(skipped) <= P(answers differ): accuracy falls only where answers change.

    Args:
        disagreement: P(answers differ), or an upper confidence bound on it, in [0, 1].

    Returns:
        Bound on the accuracy drop, unit "1", for any labels.

    Raises:
        ValueError: the disagreement is outside [0, 1].

    Source:
        Statement S11d.

    Example:
        >>> drop_bound_from_disagreement(0.018).value
        0.018
    """
    within(disagreement, 0.0, 1.0, "disagreement")
    return Bound(
        quantity="accuracy drop",
        value=disagreement,
        unit="1",
        statement="S11d",
        checked=("the disagreement is a probability",),
        assumed=("equal answers are scored equally",),
    )


def _oscillation(change: ArrayLike) -> float:
    dz = numbers(change, "change")
    return float(dz.max() - dz.min())
