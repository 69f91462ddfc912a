"""Early exit over many heads and layers: S8 for each head, propagated to the logits as in S6."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from theory.statement import RECONSTRUCTION, Counterexample, Hypothesis, ProofCheck, Statement
from theory.statements import s8_vision_keys as s8
from theory.statements._proofs import both, collect

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Net:
    """A text stream of n rows that attends to vision and text in each layer.

    Attention weights depend on positions only, so a layer without vision is linear in the text and
    has an exact Lipschitz constant.

    Attributes:
        weights: attention weights over [vision; text] keys, shape (L, heads, n, v + n).
        values: product of value and output matrix of each head, shape (L, heads, dim, dim).
        vision: vision states at each layer, shape (L, v, dim).
        text: initial text states, shape (n, dim).
        head: weights of the logits of the last text row, shape (k, dim).
        slopes: claimed Lipschitz constant of the text-only update of each layer.
        renormalised: whether attention weights are renormalised after the exit.
    """

    weights: Array
    values: Array
    vision: Array
    text: Array
    head: Array
    slopes: tuple[float, ...]
    renormalised: bool = True

    @property
    def keys(self) -> int:
        """Number of vision keys."""
        return int(self.vision.shape[1])

    def without(self, layer: int) -> Array:
        """Attention weights over text keys alone, shape (heads, n, n)."""
        text = self.weights[layer, :, :, self.keys :]
        return np.asarray(text / text.sum(axis=2, keepdims=True) if self.renormalised else text)

    def text_only(self, layer: int, text: Array) -> Array:
        """Update of a layer without vision."""
        heads = zip(self.without(layer), self.values[layer], strict=True)
        return np.asarray(sum(a @ text @ w for a, w in heads))

    def run(self) -> tuple[Array, Array, float]:
        """Logits with vision, logits after an exit at layer 0, and the bound from the full pass."""
        h, g, gap = self.text, self.text, 0.0
        for layer in range(len(self.weights)):
            g = g + self.text_only(layer, g)
            keys = np.concatenate([self.vision[layer], h])
            update, change = np.zeros_like(h), 0.0
            for a, w in zip(self.weights[layer], self.values[layer], strict=True):
                update = update + a @ keys @ w
                values = keys @ w
                distances = np.linalg.norm(values[:, None, :] - values[None, :, :], axis=2)
                var = a[:, : self.keys].sum(axis=1)  # (n,)
                change += float(distances.max()) * float(np.linalg.norm(var))
            h = h + update
            gap = (1.0 + self.slopes[layer]) * gap + change
        largest = float(np.linalg.norm(self.head, axis=1).max())
        return self.head @ h[-1], self.head @ g[-1], largest * gap

    @property
    def exact_slopes(self) -> tuple[float, ...]:
        """Sum over heads of |A| |W| for each layer."""
        return tuple(
            float(
                sum(
                    np.linalg.norm(a, 2) * np.linalg.norm(w, 2)
                    for a, w in zip(self.without(layer), self.values[layer], strict=True)
                )
            )
            for layer in range(len(self.weights))
        )


def generate(rng: np.random.Generator) -> Net:
    """One to three layers and heads, with low to high attention mass on vision."""
    depth, heads, n, v, dim = (int(k) for k in rng.integers(1, 4, 5))
    scores = rng.standard_normal((depth, heads, n, v + n))
    scores[..., :v] += rng.uniform(-6, 3)
    weights = np.exp(scores)
    net = Net(
        weights / weights.sum(axis=3, keepdims=True),
        0.5 * rng.standard_normal((depth, heads, dim, dim)),
        rng.standard_normal((depth, v, dim)),
        rng.standard_normal((n, dim)),
        rng.standard_normal((3, dim)),
        (0.0,) * depth,
    )
    return replace(net, slopes=net.exact_slopes)


def slack(net: Net) -> float:
    """Bound minus the largest change of a logit."""
    full, skip, bound = net.run()
    return bound - float(np.abs(full - skip).max())


def one_of_each(depth: int) -> Net:
    """One vision and one text key of weight 1/2 in layer 0; later layers double the text."""
    weights = np.zeros((depth, 1, 1, 2))
    weights[0] = 0.5
    weights[1:, ..., 1] = 1.0
    net = Net(
        weights,
        np.ones((depth, 1, 1, 1)),
        np.full((depth, 1, 1), 3.0),
        np.ones((1, 1)),
        np.ones((1, 1)),
        (0.0,) * depth,
    )
    return replace(net, slopes=net.exact_slopes)


def proof() -> ProofCheck:
    """S8 bounds the change at each query and head; a recursion over layers propagates it.

    One layer: |h' - g'| <= |h - g| + |full update - text-only update at h| + lambda |h - g|. A head
    changes one query by at most VAR diam and all queries by at most |VAR|_2 diam; heads add up.
    """
    depth = 5
    changes, slopes = (sp.symbols(f"{name}:{depth}", positive=True) for name in "ml")
    gap = sp.S.Zero
    for m, slope in zip(changes, slopes, strict=True):
        gap = (1 + slope) * gap + m
    claimed = sum(m * sp.prod([1 + s for s in slopes[j + 1 :]]) for j, m in enumerate(changes))
    unrolls = sp.expand(gap - claimed) == 0
    return both(s8.proof(), collect({"the recursion unrolls to the sum": unrolls}, "sympy"))


STATEMENT = Statement(
    id="S8c",
    title="a bound on early exit over all heads and layers",
    setting="text rows attend to vision and text; attention weights depend on positions only (toy "
    "network); VAR < 1; K the Lipschitz constant of the head from l2 to linf",
    claim="max |dz| <= K sum_l m_l prod_{j>l} (1 + lambda_j), with m_l the sum over heads of "
    "|VAR over queries|_2 diam(values)",
    source=RECONSTRUCTION,
    evidence="symbolic",
    domain="all networks whose text-only updates have constants lambda_j, with the recursion "
    "unrolled for 5 layers; drawn instances have exact constants",
    generate=generate,
    slack=slack,
    witness=lambda: one_of_each(3),
    hypotheses=(
        Hypothesis(
            "Lipschitz constants",
            "lambda_j is a Lipschitz constant of the text-only update of layer j",
            holds=lambda net: all(
                s >= e - 1e-9 for s, e in zip(net.slopes, net.exact_slopes, strict=True)
            ),
            counterexample=lambda: Counterexample(
                replace(one_of_each(3), slopes=(0.0, 0.0, 0.0)),
                "two later layers double the change: it is 4, the bound 1",
            ),
        ),
        Hypothesis(
            "softmax",
            "the weights of the remaining keys are renormalised",
            holds=lambda net: net.renormalised,
            counterexample=lambda: Counterexample(
                unnormalised(),
                "for vision equal to text the diameter is 0, but the output is halved",
            ),
        ),
    ),
    notes=("S8 covers one head; this bound covers the logits.",),
    proof=proof,
)


def unnormalised() -> Net:
    """Vision equal to text, without renormalisation."""
    net = replace(one_of_each(1), vision=np.ones((1, 1, 1)), renormalised=False)
    return replace(net, slopes=net.exact_slopes)
