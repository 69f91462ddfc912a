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
# # On a VLM with known safe skips, the conditions are right and cosine distance alone is not
#
# **Claim.** A skip that a condition certifies is safe. A small cosine distance does not imply
# that a skip is safe, and a large one does not imply that it is harmful. The VLM here is of the
# real LLaVA class with hand-written weights, so that it is known for each layer and depth whether
# it is needed. It answers question j about an image of class c with (c + j) mod 4.
#
# Layers are 0-based, information is in nats.

# %%
import tempfile
import warnings

warnings.filterwarnings("ignore", message="IProgress not found")  # no progress bars in here

import matplotlib.pyplot as plt
import numpy as np

import vlm_bridge as vb
from theory import conditions, label_free_drop
from theory.pmf import entropy, information
from theory.systems import run_toy, toy_vlm
from vlm_bridge.model.toy import toy_items, toy_llava
from vlm_bridge.rules import Evidence, find_rule, nested_plans

toy = toy_vlm()
vlm = toy_llava(toy)
items = toy_items(toy, tempfile.mkdtemp(), images=8)
print(", ".join(f"{layer} {kind}" for layer, kind in enumerate(toy.schedule)))

# %% [markdown]
# ## The known truth, verified by skipping
#
# Each layer is skipped for all tokens (block) and for vision tokens (freeze); vision tokens leave
# (early exit) or enter (late entry) at each depth.

# %%
plans = vb.sweep_plans(toy.n_layers)
found = vb.sweep(vlm, items, plans)


def is_safe(plan: vb.SkipPlan) -> bool:
    """Whether the hand-written weights make the plan safe."""
    truth = toy.truth
    return {
        "block": set(plan.layers) <= set(truth.safe_blocks),
        "freeze": set(plan.layers) <= set(truth.safe_freezes),
        "early_exit": plan.exit in truth.safe_exits,
        "late_entry": plan.entry in truth.safe_entries,
    }[plan.mode]


wrong = [one.plan.describe() for one in found if (one.disagreement.value == 0) != is_safe(one.plan)]
print(f"{len(plans)} plans, {sum(map(is_safe, plans))} planted as safe; contradicted: {wrong}")

# %% [markdown]
# ## Cosine distance is wrong in both directions
#
# Layer 4 only rescales text tokens: its distance is 0, but without it every answer changes. The
# kernel layers 2, 7 and 10 rotate every token by a distance of one half, in a plane that no later
# layer reads.

# %%
profile = vb.profile(vlm, items)
text = profile.values("text", "cosine_distance")
changed = np.array([one.disagreement.value for one in found if one.plan.mode == "block"])
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
axes.scatter(text, changed)
for layer, kind in enumerate(toy.schedule):
    if kind in ("scale_text", "kernel", "copy"):
        axes.annotate(f"{layer} {kind}", (text[layer], changed[layer]), rotation=30, fontsize=8)
axes.set(xlabel="cosine distance of text tokens", ylabel="answers changed without the layer")
axes.set(ylim=(-0.1, 1.6))
plt.show()

scale_text = toy.schedule.index("scale_text")
plans = nested_plans(find_rule("shortgpt"), Evidence(profile=profile))
shortgpt = [plan for plan in plans if scale_text in plan.layers]
print(
    f"ShortGPT's ranking takes layer {scale_text} with its first {len(shortgpt[0].layers)} layers"
)

# %% [markdown]
# Cosine distance ignores the norm. Together with the norm it gives the length of the update exactly
# (statement S6b).

# %%
run = run_toy(toy, [0], [1])
before, after = (float(np.linalg.norm(run.states[scale_text + i][0, -1])) for i in (0, 1))
update = conditions.state_gap(before, after, float(text[scale_text]))
print(update)

# %% [markdown]
# ## Skips that the conditions certify
#
# Early exit: the attention mass of text on vision is 2/3 in every layer but "copy", where it is
# 1. A low mass is therefore not necessary. The bound is the mass times the spread of the value
# vectors (S8), propagated through the later layers (S8c). From layer 6 on, every spread is zero,
# so an exit there changes nothing, whatever the Lipschitz constants of the later layers are.


# %%
def spread_of_values(layer: int) -> float:
    """Largest distance between the projected value vectors of two tokens, without skipping."""
    h = run.states[layer][0]
    unit = h / np.sqrt((h**2).mean(axis=1, keepdims=True) + toy.rms_norm_eps)
    value, output = (toy.weights[f"layers.{layer}.self_attn.{k}_proj.weight"] for k in "vo")
    written = unit @ value.T @ output.T
    return float(np.linalg.norm(written[:, None] - written[None], axis=2).max())


mass = run.var[:, :1]
spread = np.array([[spread_of_values(layer)] for layer in range(toy.n_layers)])
print("mass on vision:", mass.ravel().round(3), "\nspread of values:", spread.ravel().round(3))
slopes = np.full(toy.n_layers - 6, 1e6)
exit_at_6 = conditions.exit_bound_from_var(mass[6:], spread[6:], np.ones((5, 1)), slopes)
print("exit at 6:", exit_at_6)

# %% [markdown]
# Before "copy" even the best predictor needs the image: without it the predictor loses I(Y; V|T),
# which is unique information plus synergy (S2, S9).

# %%
p = toy.joint()  # class, question, answer
cost = conditions.vision_removal_cost(entropy(p, [2], given=[1]), entropy(p, [2], given=[0, 1]))
# The question alone carries no information about the answer, so all of I(Y; V) is unique.
unique = information(p, [0], [2])
loss = conditions.early_exit_loss_from_pid(unique, information(p, [0, 1], [2]) - unique)
print(cost, loss, sep="\n")

# %% [markdown]
# ## A certificate without labels

# %%
plan = vb.SkipPlan("early_exit", toy.n_layers, exit=6)
more = toy_items(toy, tempfile.mkdtemp(), images=160, questions_per_image=1)
certificate = label_free_drop(vb.certify(vlm, more, plan, epsilon=0.02, delta=0.05))
print(certificate.sentence())

# %% [markdown]
# The claim, as asserts on the result objects.

# %%
assert not wrong, wrong
assert text[scale_text] < 1e-6, "cosine sees nothing"
assert changed[scale_text] == 1.0, "and every answer depends on it"
assert min(text[2], text[7]) > 0.4, "cosine sees much"
assert changed[2] == changed[7] == 0.0, "and nothing depends on it"
assert update.value > 2.0
assert exit_at_6.value == 0.0
assert spread[5] > 0.1, "the layer an exit at 5 would take away from"
assert abs(cost.value - np.log(4)) < 1e-9
assert abs(loss.value - cost.value) < 1e-9
assert certificate.holds, certificate.sentence()
