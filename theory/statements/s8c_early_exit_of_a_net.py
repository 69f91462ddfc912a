"""Early exit over many heads and layers: S8 for each head, propagated to the logits as in S6."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from theory.formula import Formula, Formulas
from theory.statement import RECONSTRUCTION, Counterexample, Hypothesis, ProofCheck, Statement
from theory.statements import s8_vision_keys as s8
from theory.statements._proofs import about, both, collect, is_nonnegative
from theory.statements.s6_margin_telescope import CHANGES, SLOPES, amplified, recursion

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Net:
    """A text stream of n rows; blocks of attention to vision and text, each followed by an MLP.

    Attention and MLP are layers of their own: 2 L layers for L blocks. Attention weights depend on
    positions only, so attention without vision is linear in the text and has an exact Lipschitz
    constant. The MLP adds relu(h inner) outer, row by row.

    Attributes:
        weights: attention weights over [vision; text] keys, shape (L, heads, n, v + n).
        values: product of value and output matrix of each head, shape (L, heads, dim, dim).
        vision: vision states at each layer, shape (L, v, dim).
        text: initial text states, shape (n, dim).
        head: weights of the logits of the last text row, shape (k, dim).
        mlps: inner and outer matrix of each MLP, shape (L, 2, dim, dim).
        slopes: claimed Lipschitz constants of the text-only updates, attention and MLP in turn.
        renormalised: whether attention weights are renormalised after the exit.
    """

    weights: Array
    values: Array
    vision: Array
    text: Array
    head: Array
    mlps: Array
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

    def mlp(self, layer: int, text: Array) -> Array:
        """Update of an MLP, which reads no vision."""
        inner, outer = self.mlps[layer]
        return np.asarray(np.maximum(text @ inner, 0.0) @ outer)

    def run(self) -> tuple[Array, Array, float]:
        """Logits with vision, logits after an exit at layer 0, and the bound from the full pass."""
        h, g, gap = self.text, self.text, 0.0
        for layer in range(len(self.weights)):
            attention, mlp = self.slopes[2 * layer : 2 * layer + 2]
            g = g + self.text_only(layer, g)
            g = g + self.mlp(layer, g)
            keys = np.concatenate([self.vision[layer], h])
            update, change = np.zeros_like(h), 0.0
            for a, w in zip(self.weights[layer], self.values[layer], strict=True):
                update = update + a @ keys @ w
                values = keys @ w
                distances = np.linalg.norm(values[:, None, :] - values[None, :, :], axis=2)
                var = a[:, : self.keys].sum(axis=1)  # (n,)
                change += float(distances.max()) * float(np.linalg.norm(var))
            h = h + update
            h = h + self.mlp(layer, h)
            gap = (1.0 + mlp) * ((1.0 + attention) * gap + change)
        largest = float(np.linalg.norm(self.head, axis=1).max())
        return self.head @ h[-1], self.head @ g[-1], largest * gap

    @property
    def exact_slopes(self) -> tuple[float, ...]:
        """Sum over heads of |A| |W| for attention, |inner| |outer| for an MLP."""
        slopes = []
        for layer, (inner, outer) in enumerate(self.mlps):
            heads = zip(self.without(layer), self.values[layer], strict=True)
            slopes.append(sum(spectral(a) * spectral(w) for a, w in heads))
            slopes.append(spectral(inner) * spectral(outer))
        return tuple(slopes)


def spectral(matrix: Array) -> float:
    """Largest singular value."""
    return float(np.linalg.norm(matrix, 2))


def generate(rng: np.random.Generator) -> Net:
    """One to three blocks and heads, with low to high attention mass on vision."""
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
        rng.choice([0.0, 0.5]) * rng.standard_normal((depth, 2, dim, dim)),
        (0.0,) * (2 * depth),
    )
    return replace(net, slopes=net.exact_slopes)


def slack(net: Net) -> float:
    """Bound minus the largest change of a logit."""
    full, skip, bound = net.run()
    return bound - float(np.abs(full - skip).max())


def one_of_each(depth: int, mlp: float = 0.0) -> Net:
    """One vision and one text key of weight 1/2 in block 0; later attention doubles the text.

    Each MLP adds `mlp` times the positive part of the text.
    """
    weights = np.zeros((depth, 1, 1, 2))
    weights[0] = 0.5
    weights[1:, ..., 1] = 1.0
    net = Net(
        weights,
        np.ones((depth, 1, 1, 1)),
        np.full((depth, 1, 1), 3.0),
        np.ones((1, 1)),
        np.ones((1, 1)),
        np.full((depth, 2, 1, 1), 1.0) * np.array([1.0, mlp]).reshape(1, 2, 1, 1),
        (0.0,) * (2 * depth),
    )
    return replace(net, slopes=net.exact_slopes)


MASSES = sp.symbols("a:3", nonnegative=True), sp.symbols("b:3", nonnegative=True)
WIDTHS = sp.symbols("D_a D_b", nonnegative=True)
GAP, K = sp.symbols("B K", nonnegative=True)
NORMS = tuple(sp.sqrt(sum(mass**2 for mass in head)) for head in MASSES)
FORMULAS: Formulas = {
    **s8.FORMULAS,
    "change by two heads at three queries, of VAR a and b": Formula(
        sp.Symbol("|change|"), "<=", NORMS[0] * WIDTHS[0] + NORMS[1] * WIDTHS[1]
    ),
    "B for five layers": Formula(sp.Symbol("|h_5-g_5|"), "<=", amplified(CHANGES, SLOPES)),
    "logits": Formula(sp.Symbol("max|dz|"), "<=", K * GAP),
}


@about(
    {
        "change by two heads at three queries, of VAR a and b": Formula(
            sp.Symbol("|change|"), "<=", None
        ),
        "B for five layers": Formula(sp.Symbol("|h_5-g_5|"), "<=", None),
        "logits": Formula(sp.Symbol("max|dz|"), "<=", None),
    }
)
def proof(claim: Formulas) -> ProofCheck:
    """S8 bounds the change at each query and head; a recursion over layers propagates it.

    One layer: |h' - g'| <= |h - g| + |full update - text-only update at h| + lambda |h - g|. A head
    changes one query by at most VAR diam and all queries by at most |VAR|_2 diam; heads add up.
    """
    *_, change, gap, logits = claim.values()
    each = [
        sp.sqrt(sum((mass * width) ** 2 for mass in head))
        for head, width in zip(MASSES, WIDTHS, strict=True)
    ]
    return both(
        s8.proof(claim),
        collect(
            {
                "the norms over the queries of VAR diam add up to m_l": is_nonnegative(
                    sp.simplify(change.right - sum(each))
                ),
                "the recursion unrolls to the sum": is_nonnegative(
                    sp.expand(gap.right - recursion(CHANGES, SLOPES))
                ),
                "|dz| <= K B": is_nonnegative(logits.right - K * GAP),
            },
            "sympy",
        ),
    )


STATEMENT = Statement(
    id="S8c",
    title="a bound on early exit over all heads and layers",
    setting="a residual toy network; each attention and each MLP counts as one layer; text rows "
    "attend to vision and text with weights that depend on positions only, and an MLP reads no "
    "vision; VAR < 1; K the Lipschitz constant of the head from l2 to linf",
    claim="max |dz| <= K sum_l m_l prod_{j>l} (1 + lambda_j) over all attentions and MLPs, with "
    "m_l the sum over heads of |VAR over queries|_2 diam(values) for attention and 0 for an MLP",
    source=RECONSTRUCTION,
    evidence="symbolic",
    domain="all networks whose text-only updates have constants lambda_j; SymPy unrolls the "
    "recursion for 5 layers and sums over 3 queries and 2 heads; drawn instances have up to 3 "
    "blocks with exact constants",
    formulas=FORMULAS,
    argument="At one layer |h' - g'| <= |h - g| + |full update - text-only update at h| + "
    "lambda |h - g|; the middle term is at most m_l by S8 for each head and query, and 0 for an "
    "MLP. Other numbers of layers, heads and queries follow by induction.",
    generate=generate,
    slack=slack,
    witness=lambda: one_of_each(3),
    hypotheses=(
        Hypothesis(
            "Lipschitz constants",
            "lambda_j is a Lipschitz constant of the text-only update of layer j, attention or MLP",
            holds=lambda net: all(
                s >= e - 1e-9 for s, e in zip(net.slopes, net.exact_slopes, strict=True)
            ),
            counterexample=lambda: Counterexample(
                without_mlps(one_of_each(1, mlp=1.0)),
                "if the MLP is not counted as a layer, the bound is 1, but the MLP doubles the "
                "change to 2",
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


def without_mlps(net: Net) -> Net:
    """The claimed constants of the MLPs are 0, as if only attention were a layer."""
    slopes = tuple(0.0 if i % 2 else slope for i, slope in enumerate(net.slopes))
    return replace(net, slopes=slopes)


def unnormalised() -> Net:
    """Vision equal to text, without renormalisation."""
    net = replace(one_of_each(1), vision=np.ones((1, 1, 1)), renormalised=False)
    return replace(net, slopes=net.exact_slopes)
