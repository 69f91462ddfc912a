"""Claims about geometry, attention and refits that look right and are false; see the other table.

Each is a registered statement with one thing changed and no proof left.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from tests.theory.false_variants_information import BIT, false, without
from theory.pmf import kl_divergence, softmax_pmf
from theory.statements import g_f_geometric_functional as g_f
from theory.statements import g_p_geometric_proximal as g_p
from theory.statements import o1_geometric_not_necessary as o1
from theory.statements import s2_cost_of_removing_vision as s2
from theory.statements import s6_margin_telescope as s6
from theory.statements import s8_vision_keys as s8
from theory.statements import s8c_early_exit_of_a_net as s8c
from theory.statements import s12_matrix_entropy as s12
from theory.statements import s12g_gaussian_information as s12g
from theory.statements import s15a_refit_without_vision as s15a
from theory.statements import s15b_harmful_vision as s15b
from theory.statements._pairs import Pairs, random_pairs


def mean_bound(case: g_p.Distances, largest: float) -> float:
    delta = float(case.p[case.d > case.epsilon].sum())
    return case.epsilon * (1 - delta) + largest * delta - float(case.p @ case.d)


def markov(case: g_p.Distances, factor: float) -> float:
    return factor * float(case.p @ case.d) / case.t - float(case.p[case.d > case.t].sum())


def chord(case: Pairs, tokens: float = 1.0) -> float:
    return math.sqrt(2 * tokens * max(case.mean_distance, 0.0))


def other(case: Pairs) -> float:
    return case.beta * float(case.p @ np.linalg.norm(case.z - case.w, axis=1))


def still(rng: np.random.Generator) -> Pairs:
    """The other modality stays as it is, so that the chord has to do it alone."""
    return random_pairs(rng, tokens=int(rng.integers(1, 5)), other=False)


def sees_norm(rng: np.random.Generator) -> Pairs:
    return replace(g_f.generate(rng), c=float(rng.normal()))


def proximal(case: Pairs, near: float, far: float) -> float:
    bound = (1 - case.delta) * math.sqrt(near * case.epsilon) + far * case.delta
    return case.alpha * bound - case.change


def segment_slopes(rng: np.random.Generator) -> s6.Stack:
    """A layer is as steep as it is on the segments from h_j to where single skips end."""
    depth, dim = 3, 1
    values = rng.standard_normal(3 * (4 * depth + 2)) * 3.0
    stack = s6.random_stack(values, depth, dim, frozenset({0, 1}))
    full, slopes = stack.full, []
    for j in range(depth):
        steepest = 0.0
        for skipped in range(j):
            single = replace(stack, layers=stack.layers[:j], skipped=frozenset({skipped}))
            g, h = single.skip, full[j]
            gap = float(np.linalg.norm(h - g))
            if gap > 1e-9:
                change = float(np.linalg.norm(stack.update(j, h) - stack.update(j, g)))
                steepest = max(steepest, change / gap)
        slopes.append(steepest)
    return replace(stack, slopes=tuple(slopes))


def state_gap(case: s6.Stack) -> float:
    return float(np.linalg.norm(case.full[-1] - case.skip))


def first_update(case: s6.Stack) -> float:
    s = min(case.skipped)
    return float(np.linalg.norm(case.update(s, case.full[s])))


def twice_the_margin(case: s6.Stack) -> float:
    """What is left of the margin where K B < 2 m, four times what the statement allows."""
    full = case.full[-1]
    logits = np.sort(case.head @ full)
    rows = float(np.linalg.norm(case.head, axis=1).max())
    if rows * case.bound >= 2 * (logits[-1] - logits[-2]):
        return 0.0
    best = int(np.argmax(case.head @ full))
    after = case.head @ case.skip
    return float(after[best] - np.delete(after, best).max())


def cosine_only(pair: Any) -> float:
    a, b = np.linalg.norm(pair, axis=1)
    d = 1.0 - float(pair[0] @ pair[1]) / (a * b)
    return float(2 * a * b * d - ((pair[1] - pair[0]) ** 2).sum())


def answers(case: Any) -> tuple[Any, Any, float]:
    p, q = (softmax_pmf(z / 3.0, z.shape) for z in (case[0], case[0] + case[1]))
    return p, q, float(np.ptp(case[1]))


def kl_room(case: Any, divisor: float, unit: float = 1.0) -> float:
    p, q, osc = answers(case)
    return osc**2 / divisor - kl_divergence(p, q) / unit


def tv_room(case: Any, divisor: float) -> float:
    p, q, osc = answers(case)
    return math.tanh(osc / divisor) - float(np.abs(p - q).sum()) / 2


def log_room(case: Any) -> float:
    p, q, osc = answers(case)
    return osc / 2 - float(np.abs(np.log(q) - np.log(p)).max())


def head_change(head: s8.Head) -> float:
    return float(np.linalg.norm(head.output() - head.output(head.vision)))


def unnormalised(rng: np.random.Generator) -> s8.Head:
    return replace(s8.generate(rng), softmax=False)


def flat(rng: np.random.Generator) -> s8c.Net:
    net = s8c.generate(rng)
    return replace(net, slopes=(0.0,) * len(net.slopes))


def attention_only(rng: np.random.Generator) -> s8c.Net:
    """MLPs that move the text and are not counted as layers."""
    net = s8c.generate(rng)
    moving = replace(net, mlps=rng.standard_normal(net.mlps.shape))
    return s8c.without_mlps(replace(moving, slopes=moving.exact_slopes))


def root(case: s12.Grams, top: float) -> float:
    c = case.mean_distance
    return math.sqrt(max(c * (top - c), 0.0)) - case.trace_distance


def scaled_rows(rng: np.random.Generator) -> s12.Grams:
    case = s12.generate(rng)
    return replace(case, x=case.x * rng.uniform(0.1, 3.0, (len(case.x), 1)))


def gained(case: s15b.Misled) -> float:
    removal = case.removal
    return s2.nll(removal.p, removal.full) - s2.nll(removal.p, removal.skip)


def trace_bound(case: s12g.Cross) -> float:
    return float(np.log1p(-((np.trace(case.c) / len(case.c)) ** 2))) * len(case.c) / 2


def tokens_of_inputs(rng: np.random.Generator) -> g_p.Distances:
    return replace(g_p.generate(rng), same_unit=False)


def tame_head(rng: np.random.Generator) -> s6.Stack:
    stack = s6.generate(rng)
    return replace(stack, to_linf=stack.to_linf / 4, to_l2=stack.to_l2 / 4)


def half_measured(rng: np.random.Generator) -> s6.Stack:
    stack = s6.generate(rng)
    return replace(stack, measured=np.arange(stack.start.size) < stack.start.size // 2)


def counted_anew(rng: np.random.Generator) -> s8.Head:
    return replace(s8.generate(rng), shift=float(rng.uniform(0.5, 2.0)))


def half_carried(net: s8c.Net) -> float:
    return s8c.slack(replace(net, slopes=tuple(s / 2 - 0.5 for s in net.slopes)))


def one_feature(rng: np.random.Generator) -> s15a.Regression:
    return replace(s15a.generate(rng), text=0, vision=1)


def longer(rng: np.random.Generator) -> o1.KernelUpdate:
    case = o1.generate(rng)
    return replace(case, after=case.after + 2.0 * (case.after - case.before))


FALSE_VARIANTS = {
    "G-P: distance in [0, 1]": false("G-P", slack=lambda c: mean_bound(c, 1.0)),
    "G-P: Markov with half the constant": false("G-P", slack=lambda c: markov(c, 0.5)),
    "G-P: tokens averaged, inputs counted": without(
        "G-P", "same unit", generate=tokens_of_inputs, search=None
    ),
    "G-F: constant halved": false(
        "G-F", generate=still, slack=lambda c: c.alpha * chord(c, c.x.shape[1]) / 2 - c.change
    ),
    "G-F: a slice read as one token": false(
        "G-F", generate=still, slack=lambda c: c.alpha * chord(c) - c.change
    ),
    "G-F: linear in eps": false(
        "G-F",
        generate=still,
        slack=lambda c: c.alpha * 2 * c.x.shape[1] * c.mean_distance - c.change,
    ),
    "G-F: the other modality forgotten": false(
        "G-F", slack=lambda c: c.alpha * chord(c, c.x.shape[1]) - c.change
    ),
    "G-F: a head that sees the norm": without("G-F", "normalising head", generate=sees_norm),
    "P-F: distance in [0, 1]": false("P-F", slack=lambda c: proximal(c, 2.0, math.sqrt(2.0))),
    "P-F: sqrt(eps)": false("P-F", slack=lambda c: proximal(c, 1.0, 2.0)),
    "S6: slopes on segments of single skips": without(
        "S6", "Lipschitz constants of the updates", generate=segment_slopes, search=None
    ),
    "S6: no amplification": false(
        "S6", slack=lambda c: replace(c, slopes=(0.0,) * len(c.slopes)).bound - state_gap(c)
    ),
    "S6: only the first skipped layer": false("S6", slack=lambda c: first_update(c) - state_gap(c)),
    "S6: four times the margin": false("S6", slack=twice_the_margin),
    "S6: any head": without(
        "S6", "Lipschitz constants of the head", generate=tame_head, search=None
    ),
    "S6: part of the state measured": without(
        "S6", "norms over all tokens", generate=half_measured, search=None
    ),
    "S6b: cosine alone": false("S6b", slack=cosine_only),
    "S7: KL with half the constant": false("S7", slack=lambda c: kl_room(c, 16.0)),
    "S7: KL in bits": false("S7", slack=lambda c: kl_room(c, 8.0, BIT)),
    "S7: tanh(osc/8)": false("S7", slack=lambda c: tv_room(c, 8.0)),
    "S7: half the oscillation for log p": false("S7", slack=log_room),
    "S8: VAR squared": false("S8", slack=lambda h: h.a**2 * h.diameter - head_change(h)),
    "S8: VAR (1 - VAR)": false("S8", slack=lambda h: h.a * (1 - h.a) * h.diameter - head_change(h)),
    "S8: no renormalisation": without("S8", "softmax", generate=unnormalised),
    "S8: positions counted anew": without("S8", "unchanged scores", generate=counted_anew),
    "S8c: half the amplification": false("S8c", slack=half_carried),
    "S8c: later layers do not amplify": without("S8c", "Lipschitz constants", generate=flat),
    "S8c: an MLP is no layer": without("S8c", "Lipschitz constants", generate=attention_only),
    "S12: distance in [0, 1]": false("S12", slack=lambda c: root(c, 1.0)),
    "S12: distance in [0, 1.9]": false("S12", slack=lambda c: root(c, 1.9)),
    "S12: T <= c": false("S12", slack=lambda c: c.mean_distance - c.trace_distance),
    "S12: rows of any norm": without("S12", "unit rows", generate=scaled_rows),
    "S12: without the binary entropy": false(
        "S12", slack=lambda c: c.trace_distance * math.log(len(c.x) - 1) - c.change
    ),
    "S12: entropy in bits, bound in nats": false(
        "S12",
        slack=lambda c: s12.continuity(min(c.trace_distance, 1.0), len(c.x)) - c.change / BIT,
    ),
    "S12g: trace bound reversed": false("S12g", slack=lambda c: -trace_bound(c) - c.information),
    "S12g: bound in bits, information in nats": false(
        "S12g", slack=lambda c: c.information + trace_bound(c) / BIT
    ),
    "S15a: n in place of n - 1": false(
        "S15a", slack=lambda c: -abs(c.extra - s15a.formula(c) * c.n / (c.n - 1))
    ),
    "S15a: vision that is useful": without(
        "S15a", "useless vision", generate=lambda rng: replace(s15a.generate(rng), useful=1.0)
    ),
    "S15a: features of signs": without(
        "S15a",
        "Gaussian features",
        generate=lambda rng: replace(one_feature(rng), features="signs"),
    ),
    "S15a: noise as large as the feature": without(
        "S15a",
        "homoscedastic noise",
        generate=lambda rng: replace(one_feature(rng), homoscedastic=False),
    ),
    "S15b: a skip never helps": false("S15b", slack=lambda c: -gained(c)),
    "O1: a longer update in the kernel": without("O1", "norm preserved", generate=longer),
    "O2: high VAR moves the head": false("O2", slack=lambda h: head_change(h) - 1e-3),
}
