"""Early exit over many heads and layers: S8 at every head, carried to the logits as in S6."""

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
    """A text stream of n rows that attends to vision and to itself, layer after layer.

    Attention weights depend on positions only, so that a layer without vision is linear in the
    text and its Lipschitz constant is exact.

    Attributes:
        weights: attention over [vision; text] keys, rows sum to 1, shape (L, heads, n, v + n).
        values: value and output matrix of each head, shape (L, heads, dim, dim).
        vision: vision states of each layer, shape (L, v, dim).
        text: text states on entry, shape (n, dim).
        head: logits from the last text row, shape (k, dim).
        slopes: claimed Lipschitz constant of each layer's text-only update.
        renormalised: whether the weights that remain after an exit are renormalised.
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
        """Attention over text keys alone, shape (heads, n, n)."""
        kept = self.weights[layer, :, :, self.keys :]
        return np.asarray(kept / kept.sum(axis=2, keepdims=True) if self.renormalised else kept)

    def text_only(self, layer: int, text: Array) -> Array:
        """The update of a layer once vision has left."""
        heads = zip(self.without(layer), self.values[layer], strict=True)
        return np.asarray(sum(a @ text @ w for a, w in heads))

    def run(self) -> tuple[Array, Array, float]:
        """Logits with vision, logits after exit at layer 0, and the bound from the full pass."""
        h, g, carried = self.text, self.text, 0.0
        for layer in range(len(self.weights)):
            g = g + self.text_only(layer, g)
            keys = np.concatenate([self.vision[layer], h])
            update, moved = np.zeros_like(h), 0.0
            for a, w in zip(self.weights[layer], self.values[layer], strict=True):
                update = update + a @ keys @ w
                values = keys @ w
                gaps = np.linalg.norm(values[:, None, :] - values[None, :, :], axis=2)
                var = a[:, : self.keys].sum(axis=1)  # (n,)
                moved += float(gaps.max()) * float(np.linalg.norm(var))
            h = h + update
            carried = (1.0 + self.slopes[layer]) * carried + moved
        largest = float(np.linalg.norm(self.head, axis=1).max())
        return self.head @ h[-1], self.head @ g[-1], largest * carried

    @property
    def exact_slopes(self) -> tuple[float, ...]:
        """Sum over heads of |A| |W|, for each layer."""
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
    """One to four layers, one to three heads; little or much attention on vision."""
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
    """The bound minus the largest change of a logit."""
    full, skip, bound = net.run()
    return bound - float(np.abs(full - skip).max())


def one_of_each(depth: int) -> Net:
    """One vision and one text key with weight 1/2 each in layer 0; later layers double the text."""
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
    """S8 bounds what an exit changes at each query and head; the recursion carries it on.

    One layer: |h' - g'| <= |h - g| + |full update - text-only update at h| + lambda |h - g|. A
    query of a head moves by at most VAR diam, all queries together by |VAR|_2 diam, heads add.
    """
    depth = 5
    moved, slopes = sp.symbols(f"m:{depth}", positive=True), sp.symbols(f"l:{depth}", positive=True)
    carried = sp.S.Zero
    for m, slope in zip(moved, slopes, strict=True):
        carried = (1 + slope) * carried + m
    claimed = sum(m * sp.prod([1 + s for s in slopes[j + 1 :]]) for j, m in enumerate(moved))
    unrolls = sp.expand(carried - claimed) == 0
    return both(s8.proof(), collect({"the recursion unrolls to the sum": unrolls}, "sympy"))


STATEMENT = Statement(
    id="S8c",
    title="a bound for early exit, over all heads and layers",
    setting="text rows attend to vision and text; attention weights fixed by position (toy net); "
    "VAR < 1; K the head's constant from l2 to linf",
    claim="max |dz| <= K sum_l m_l prod_{j>l} (1 + lambda_j), m_l = sum over heads of "
    "|VAR over queries|_2 times diam(values)",
    source=RECONSTRUCTION,
    evidence="symbolic",
    domain="all nets whose text-only layers have constants lambda_j, the recursion unrolled for 5 "
    "layers; drawn with weights fixed by position, where those are exact",
    generate=generate,
    slack=slack,
    witness=lambda: one_of_each(3),
    hypotheses=(
        Hypothesis(
            "slopes that hold everywhere",
            "lambda_j is a Lipschitz constant of the text-only update of layer j",
            holds=lambda net: all(
                s >= e - 1e-9 for s, e in zip(net.slopes, net.exact_slopes, strict=True)
            ),
            counterexample=lambda: Counterexample(
                replace(one_of_each(3), slopes=(0.0, 0.0, 0.0)),
                "two later layers double what the exit removed: 4 against 1",
            ),
        ),
        Hypothesis(
            "softmax",
            "the weights of the remaining keys are renormalised",
            holds=lambda net: net.renormalised,
            counterexample=lambda: Counterexample(
                unnormalised(), "vision equal to text has diameter 0, but half the output is gone"
            ),
        ),
    ),
    notes=("Without it early exit has no functional theorem: S8 speaks of one head.",),
    proof=proof,
)


def unnormalised() -> Net:
    """Vision equal to text, weights that are not renormalised."""
    net = replace(one_of_each(1), vision=np.ones((1, 1, 1)), renormalised=False)
    return replace(net, slopes=net.exact_slopes)
