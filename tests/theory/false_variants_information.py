"""Claims about information that look right and are false; the verifier must reject each.

Each is a registered statement with one thing changed: a constant, a direction, a unit, a
hypothesis. None keeps its proof, so that it has to be refuted by an instance.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from theory import Statement, statements
from theory.pmf import Pmf, as_pmf, entropy, information, kl_divergence, random_pmf
from theory.statements import (
    i_f_risk_from_information as i_f,
)
from theory.statements import (
    p_ia_distance_fano as p_ia,
)
from theory.statements import (
    s1b_residual_markov as s1b,
)
from theory.statements import (
    s2_cost_of_removing_vision as s2,
)
from theory.statements import (
    s4b_fano_drop as s4b,
)
from theory.statements import (
    s9_pid_of_early_exit as s9,
)
from theory.statements import (
    s10_withdrawal_gap as s10,
)
from theory.statements import (
    s14a_unsafety as s14a,
)
from theory.statements._enumerate import bayes_risk

BIT = math.log(2.0)


def false(name: str, **changes: Any) -> Statement:
    """A registered statement without proof and with something changed."""
    return replace(statements.get(name), evidence="searched", proof=None, **changes)


def without(name: str, dropped: str, **changes: Any) -> Statement:
    """The same with one hypothesis removed."""
    kept = tuple(h for h in statements.get(name).hypotheses if h.name != dropped)
    assert len(kept) < len(statements.get(name).hypotheses)
    return false(name, hypotheses=kept, **changes)


# --- P-I ------------------------------------------------------------------------------------


def beyond_the_limit(rng: np.random.Generator) -> p_ia.Pair:
    """Delta anywhere up to 1 - 1/|X|; X' often spread evenly."""
    while True:
        pair = p_ia.generate(rng)
        n = len(pair.p)
        p = pair.p if rng.random() < 0.5 else as_pmf(np.ones((n, n)))
        pair = replace(pair, p=p)
        if pair.tail <= 1 - 1 / n:
            return replace(pair, delta=float(rng.uniform(pair.tail, 1 - 1 / n)))


def fano_with_largest_ball(pair: p_ia.Pair) -> float:
    most, _ = pair.balls
    outside = max(len(pair.p) - most, 1)
    bound = (1 - pair.delta) * math.log(most) + pair.delta * math.log(outside)
    return bound + entropy(np.array([pair.delta, 1 - pair.delta])) - h_next(pair)


def h_next(pair: p_ia.Pair) -> float:
    return entropy(pair.p, [1], given=[0])


def fano_without_indicator(pair: p_ia.Pair) -> float:
    return p_ia.slack(pair) - entropy(np.array([pair.delta, 1 - pair.delta]))


def information_change(p: Pmf) -> float:
    return abs(information(p, [1], [2]) - information(p, [0], [2]))


# --- I-F, S1 --------------------------------------------------------------------------------


def risk_lost(case: i_f.Loss) -> float:
    with_x, with_z = (case.p.sum(axis=axis).T for axis in (1, 0))
    return bayes_risk(with_z, case.loss) - bayes_risk(with_x, case.loss)


def info_left(case: i_f.Loss) -> float:
    return max(information(case.p, [0], [2], given=[1]), 0.0)


def info_difference(case: i_f.Loss) -> float:
    return max(information(case.p, [0], [2]) - information(case.p, [1], [2]), 0.0)


def any_layer(rng: np.random.Generator) -> Pmf:
    return random_pmf(rng, [int(n) for n in rng.integers(2, 5, 3)])


def on_slice(chosen: str) -> Any:
    return lambda rng: replace(s1b.generate(rng), slice=chosen)


def acausal(rng: np.random.Generator) -> s1b.Layer:
    layer = s1b.generate(rng)
    return replace(layer, v=rng.integers(s1b.MODULUS, size=layer.v.shape))


# --- S2 to S14 ------------------------------------------------------------------------------


def with_a_cache(rng: np.random.Generator) -> s2.Removal:
    """The full model also reads the answer from earlier keys."""
    case = s2.generate(rng)
    return replace(case, cached=np.full(case.p.shape, 0.9))


def reversed_divergence(case: s2.Removal) -> float:
    total = 0.0
    for cell in np.ndindex(case.p.shape[:2]):
        mass = float(case.p[cell].sum())
        if mass > 0 and (case.p[cell] > 0).all():
            truth = case.p[cell] / mass
            skip, full = case.skip[cell], case.full[cell]
            total += mass * (kl_divergence(skip, truth) - kl_divergence(full, truth))
    return -abs(s2.nll(case.p, case.skip) - s2.nll(case.p, case.full) - total)


def positive(rng: np.random.Generator) -> s2.Removal:
    case = s2.generate(rng)
    return replace(case, p=as_pmf(case.p + 0.01))


def best_removal(p: Pmf) -> float:
    return entropy(p, [2], given=[1]) - entropy(p, [2], given=[0, 1])


def lost_late(p: Pmf) -> float:
    return information(p, [0], [1, 2]) - information(p, [0], [1, 3])


def folded(rng: np.random.Generator) -> Pmf:
    y, v, t = (int(n) for n in rng.integers(2, 5, 3))
    return statements.get("S3").generate(rng) if t < 3 else _fold(random_pmf(rng, (y, v, t)))


def _fold(p: Pmf) -> Pmf:
    table = np.arange(p.shape[2]) // 2
    return p[:, :, :, None] * np.eye(int(table.max()) + 1)[table][None, None]


def bayes_error(p: Pmf) -> float:
    return 1.0 - float(p.max(axis=1).sum())


def left_over(p: Pmf) -> float:
    return entropy(p, [1], given=[0])


def fano_room(p: Pmf, weight: float, unit: float) -> float:
    q = p.sum(axis=1)
    error, k = max(bayes_error(q), 0.0), p.shape[2]
    h_b = s4b.fano(error, 2)
    return h_b + weight * error * math.log(k - 1) - left_over(q) / unit


def any_pid(rng: np.random.Generator) -> s9.Decomposition:
    case = s9.generate(rng)
    return replace(case, redundant=float(rng.uniform(0.0, 2.0)))


def gap(p: Pmf, vision: int, text: int) -> float:
    return information(p, [s10.Y], [vision], given=[text])


def text_information(p: Pmf, text: int) -> float:
    return information(p, [s10.Y], [text])


def other_suffix(rng: np.random.Generator) -> s14a.Probes:
    case = s14a.generate(rng)
    truth = case.p / np.maximum(case.p.sum(axis=1, keepdims=True), 1e-12)
    return replace(case, suffix=0.9 * truth + 0.1 / truth.shape[1])


FALSE_VARIANTS = {
    "P-Ia: delta <= 1 - 1/|X| as in plain Fano": without(
        "P-Ia", "delta below its limit", generate=beyond_the_limit
    ),
    "P-Ia: the largest ball in both places": false("P-Ia", slack=fano_with_largest_ball),
    "P-Ia: without the indicator's entropy": false("P-Ia", slack=fano_without_indicator),
    "P-Ia: entropy in bits, bound in nats": false(
        "P-Ia", slack=lambda pair: p_ia.bound(pair) - h_next(pair) / BIT
    ),
    "P-Ib: constant halved": false(
        "P-Ib",
        slack=lambda p: (
            max(entropy(p, [1], given=[0]), entropy(p, [0], given=[1])) / 2 - information_change(p)
        ),
    ),
    "P-Ib: the smaller of the two entropies": false(
        "P-Ib",
        slack=lambda p: (
            min(entropy(p, [1], given=[0]), entropy(p, [0], given=[1])) - information_change(p)
        ),
    ),
    "P-Ib: conditioned the other way": false(
        "P-Ib",
        slack=lambda p: entropy(p, [1], given=[0]) - information(p, [0], [2], given=[1]),
    ),
    "I-F: constant halved": false(
        "I-F", slack=lambda c: c.range * math.sqrt(info_left(c) / 2) / 2 - risk_lost(c)
    ),
    "I-F: no square root": false(
        "I-F", slack=lambda c: c.range * -math.expm1(-info_left(c)) - risk_lost(c)
    ),
    "I-F: nats taken for bits": false(
        "I-F", slack=lambda c: c.range * math.sqrt(info_left(c) * BIT / 2) - risk_lost(c)
    ),
    "I-F: I(X;Y) - I(Z;Y) without the Markov chain": false(
        "I-F", slack=lambda c: c.range * math.sqrt(info_difference(c) / 2) - risk_lost(c)
    ),
    "I-F: losses beyond the range": without(
        "I-F",
        "range of the loss",
        generate=lambda rng: replace(i_f.generate(rng), range=0.2),
    ),
    "S1: reversed": false(
        "S1", slack=lambda p: information(p, [2], [0]) - information(p, [1], [0])
    ),
    "S1: any layer": without("S1", "Markov", generate=any_layer),
    "S1r: reversed": false(
        "S1r",
        slack=lambda t: bayes_risk(t.p.sum(axis=2), t.loss) - bayes_risk(t.p.sum(axis=1), t.loss),
    ),
    "S1b: the text slice": without("S1b", "closed slice", generate=on_slice("text")),
    "S1b: vision behind a varying prefix": without(
        "S1b", "constant prefix", generate=on_slice("vision")
    ),
    "S1b: no causal mask": without("S1b", "causal mask", generate=acausal),
    "S2: a predictor that reads a cache": without(
        "S2", "predictors of (V_l, T_l)", generate=with_a_cache
    ),
    "S2: divergences the other way round": false(
        "S2", generate=positive, slack=reversed_divergence
    ),
    "S2: information not conditioned on text": false(
        "S2", slack=lambda c: -abs(best_removal(c.p) - information(c.p, [2], [0]))
    ),
    "S2: bits on the left, nats on the right": false(
        "S2", slack=lambda c: -abs(best_removal(c.p) / BIT - information(c.p, [2], [0], given=[1]))
    ),
    "S3: not conditioned on vision": false(
        "S3", slack=lambda p: -abs(lost_late(p) - information(p, [0], [2], given=[3]))
    ),
    "S3b: a text stack that folds": without("S3b", "injective", generate=folded),
    "S4a: constant halved": false("S4a", slack=lambda p: left_over(p) / (4 * BIT) - bayes_error(p)),
    "S4a: H/2, meant for bits, in nats": false(
        "S4a", slack=lambda p: left_over(p) / 2 - bayes_error(p)
    ),
    "S4a: exp(-H/2)": false("S4a", slack=lambda p: -math.expm1(-left_over(p) / 2) - bayes_error(p)),
    "S4b: without log(k-1)": false("S4b", slack=lambda p: fano_room(p, 0.0, 1.0)),
    "S4b: entropy in bits": false("S4b", slack=lambda p: fano_room(p, 1.0, BIT)),
    "S4b: Fano reversed": false("S4b", slack=lambda p: -fano_room(p, 1.0, 1.0)),
    "S9: unique vision information is all that is lost": false(
        "S9", slack=lambda c: -abs(c.unique_vision - information(c.p, [0], [1], given=[2]))
    ),
    "S9: any redundancy": without("S9", "nonnegative atoms", generate=any_pid),
    "S10: the gap never grows": false(
        "S10", slack=lambda p: gap(p, s10.V, s10.T) - gap(p, s10.W, s10.S)
    ),
    "S10: text terms exchanged": false(
        "S10",
        slack=lambda p: (
            gap(p, s10.V, s10.T)
            + text_information(p, s10.S)
            - text_information(p, s10.T)
            - gap(p, s10.W, s10.S)
        ),
    ),
    "S14a: a suffix outside the family": without("S14a", "suffix in F", generate=other_suffix),
    "S14a: the suffix is the best probe": false(
        "S14a", slack=lambda c: c.entropy() - c.nll(c.suffix)
    ),
    "S14b: data processing for usable information": false("S14b", slack=lambda c: -c.gain()),
    "S14b: noise forgotten": false("S14b", slack=lambda c: c.gain() - BIT),
}
