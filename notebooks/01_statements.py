# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Every statement about skipping says what a machine checks, and needs its hypotheses
#
# **Claim.** Every registered statement passes its checks: the machine proves its formulas, neither
# random instances nor an optimiser violates the claim, and each hypothesis has a counterexample, an
# instance that meets all other hypotheses and violates the claim. Steps from the formulas to the
# claim that no machine checks are stated in words.
#
# Information is in nats. The theory is a reconstruction of arXiv:2509.25584.

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

from theory import prove, statements, verify_statement
from theory.pmf import entropy
from theory.report import problems, table

# %% [markdown]
# ## A statement
#
# Statement S9: early exit loses unique vision information and synergy. The cell prints the claim,
# what the machine checks of it, what is argued in words, its hypotheses and their counterexamples.

# %%
early_exit = statements.get("S9")
print(early_exit.claim)
for name, formula in early_exit.formulas.items():
    print(f"machine-checked ({name}): {formula}")
print(f"in words: {early_exit.argument}")
for hypothesis in early_exit.hypotheses:
    counterexample = hypothesis.counterexample()
    slack = early_exit.slack(counterexample.instance)
    print(f"hypothesis:     {hypothesis.text}")
    print(f"counterexample: {counterexample.sentence}, slack {slack:.3f}")

# %% [markdown]
# ## A proof for all distributions
#
# A linear program over Shannon's inequalities proves S10, and its rational certificate is checked
# exactly: the information lost by an exit does not increase at the next layer unless the text
# information decreases. W and S are vision and text after the layer.

# %%
exit_stays_safe = prove("I(Y;W|S) <= I(Y;V|T) + I(Y;T) - I(Y;S)", given="Y -> V,T -> W,S")
print(exit_stays_safe)

# %% [markdown]
# Without the Markov chain there is no proof: a point of the cone violates the inequality. For more
# than three variables such a point excludes a Shannon-type proof, but does not refute the claim:
# the inequality of Zhang and Yeung holds for all random variables and is not a sum of Shannon's
# inequalities. What refutes S10 without the chain is the counterexample of its hypothesis. Up to
# three variables, every such point belongs to random variables, up to a factor.

# %%
without_chain = prove("I(Y;W|S) <= I(Y;V|T) + I(Y;T) - I(Y;S)")
zhang_yeung = prove("2 I(C;D) <= I(A;B) + I(A;C,D) + 3 I(C;D|A) + I(C;D|B)")
print(f"without the chain, slack at the witness: {without_chain.witness.value}")
print(zhang_yeung)
print(prove("I(X;Y|Z) <= I(X;Y)"))

# %% [markdown]
# ## The hypothesis of Fano's inequality is not sufficient
#
# P-Ia bounds H(X'|X) by h_b(delta) + (1-delta) log N_eps + delta log(|X|-N_min). Fano's inequality
# requires delta <= 1 - 1/|X|, which is not sufficient here: for four points in two near pairs and
# X' uniform, P(d > eps) = 1/2, and for delta > 1/2 the bound is below H(X'|X).

# %%
fano = statements.get("P-Ia")
pair = fano.hypotheses[1].counterexample().instance
deltas = np.linspace(0.5, 0.75, 26)
slacks = [fano.slack(replace(pair, delta=d)) for d in deltas]

figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
axes.plot(deltas, slacks)
axes.axhline(0.0, color="black", lw=0.8)
axes.axvline(pair.limit, ls="--", label="limit of the statement")
axes.axvline(1 - 1 / len(pair.p), ls=":", color="C1", label="1 - 1/|X|")
axes.set(xlabel="delta", ylabel="slack (nats)", title="bound minus H(X'|X)")
axes.legend()
plt.show()

# %% [markdown]
# ## The verifier rejects a false claim
#
# A proof receives the formulas as its argument: with the constant of Hellman and Raviv halved, the
# proof of S4a fails.

# %%
formulas = statements.get("S4a").formulas
hellman_raviv = formulas["Hellman-Raviv"]
halved = replace(hellman_raviv, right=hellman_raviv.right / 2)
unproved = statements.get("S4a").proof({**formulas, "Hellman-Raviv": halved})
print(f"{halved}: {unproved.detail}")

# %% [markdown]
# The verifier also searches for violations.
# P_e <= H(Y|Z)/(2 ln 2) holds for H in nats. With the constant for bits, P_e <= H/2, the verifier
# finds a violation and simplifies it.

# %%
in_nats = statements.get("S4a")
in_bits = replace(
    in_nats,
    evidence="searched",
    proof=None,
    slack=lambda p: entropy(p, [1], given=[0]) / 2 - (1 - p.max(axis=1).sum()),
)
rejected = verify_statement(in_bits, trials=200)
print(rejected.failures[-1])

# %% [markdown]
# ## All statements
#
# The column "needed" counts the hypotheses shown to be necessary. The last section holds the
# objections to the theory, each shown by an exact example.

# %%
verdicts = statements.verify_all(trials=200)
print(table(verdicts).rpartition(";")[0])

# %% [markdown]
# The claim as assertions on the result objects.

# %%
assert exit_stays_safe.proved
assert exit_stays_safe.certificate.check()
assert not without_chain.proved
assert not zhang_yeung.proved
assert not without_chain.witness.refutes
assert not unproved.proved
assert not rejected.holds
assert min(slacks) < -0.1
assert all(verdict.complete for verdict in verdicts), problems(verdicts)
