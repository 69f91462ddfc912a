"""KL <= osc(dz)^2/8 both ways, TV <= tanh(osc/4), |d log p| <= osc: what a logit change can do."""

from __future__ import annotations

import numpy as np

from theory.pmf import kl_divergence, softmax_pmf
from theory.statement import Search, Statement
from theory.statements._pairs import Array


def generate(rng: np.random.Generator) -> Array:
    """Logits and their change, shape (2, k); one in two changes takes two values only."""
    k = int(rng.integers(2, 8))
    z = rng.standard_normal(k) * rng.choice([0.1, 1.0, 5.0])
    change = rng.standard_normal(k) * rng.choice([0.01, 1.0, 5.0])
    if rng.random() < 0.5:
        change = np.sign(change) * abs(change[0])
    return np.stack([z, change])


def slack(case: Array) -> float:
    """The smallest of the four bounds minus what it bounds; KL in nats."""
    p, q = (softmax_pmf(z / 3.0, z.shape) for z in (case[0], case[0] + case[1]))
    osc = float(np.ptp(case[1]))
    kl = max(kl_divergence(p, q), kl_divergence(q, p))
    tv = float(np.abs(p - q).sum()) / 2
    logs = float(np.abs(np.log(q) - np.log(p)).max())
    return min(osc**2 / 8 - kl, float(np.tanh(osc / 4)) - tv, osc - logs)


STATEMENT = Statement(
    id="S7",
    title="what a change of logits can do to an answer",
    setting="softmax over k logits; osc = max - min of the change of logits",
    claim="KL(p||q), KL(q||p) <= osc^2/8 nats;  TV <= tanh(osc/4);  max |log p - log q| <= osc",
    source="Hoeffding 1963, Lemma 1, for KL; the others by the same two-point argument",
    evidence="searched",
    domain="random logits and changes for k = 2 to 7, and an optimiser for k = 4",
    generate=generate,
    slack=slack,
    witness=lambda: np.array([[0.5, -0.5], [-1.0, 1.0]]),  # odds e to 1/e: TV = tanh(1/2)
    search=Search(8, lambda vector: 3.0 * np.tanh(vector.reshape(2, 4))),
)
