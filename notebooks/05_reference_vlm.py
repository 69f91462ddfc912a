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
# # After its first layers, the reference VLM hardly needs to update its vision tokens
#
# **Claim.** A profile of *unlabelled* questions predicts layers in which the vision tokens
# need not be updated. The notebook skips these updates and certifies, on images that were not
# used to choose the plan, how often an answer changes. The first layers are not among the
# predicted ones: freezing only the first layers changes far more answers.
#
# The model is a standard LLaVA around the pretrained SmolLM2-135M-Instruct; the questions are
# easy-VQA. Layers are 0-based, the image is the independent unit.

# %%
import warnings

warnings.filterwarnings("ignore", message="IProgress not found")  # no progress bars in here

import matplotlib.pyplot as plt

import vlm_bridge as vb
from vlm_bridge.data import easy_vqa, limit_per_image

vlm = vb.load("reference")


def images(split: str, count: int) -> list:
    """One question of each of the first `count` images of a split."""
    return limit_per_image(easy_vqa(split), 1)[:count]


# %% [markdown]
# ## Profile
#
# One forward pass over 24 images, without labels, for the model and for a copy with random
# weights. A distance that this copy shows as well is no evidence of redundancy.

# %%
profile = vb.profile(vlm, images("profile", 24))
null = vb.profile(vb.random_copy(vlm), images("profile", 8))

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3), layout="constrained")
for found, style in ((profile, "o-"), (null, "--")):
    left.plot(found.values("image", "cosine_distance"), style, ms=3, label=found.model)
    right.plot(found.values("text", "var"), style, ms=3, label=found.model)
left.set(xlabel="layer (0-based)", ylabel="mean cosine distance", title="vision tokens")
right.set(xlabel="layer (0-based)", ylabel="attention mass on vision", title="text queries")
left.legend()
plt.show()

# %% [markdown]
# ## Plan
#
# The rule multiplies the distance by which a layer moves the vision states by the attention that
# text pays to them in later layers. The plan is the largest one that changes at most epsilon / 2
# of the answers on the tuning images. Epsilon is half of the certified level, because 48 images
# are few.

# %%
plan = vb.choose_plan(vlm, profile, images("tuning", 48), rule="skip-it", epsilon=0.05)
print(plan.describe())

# %% [markdown]
# ## Certificate
#
# The plan is certified on images that were not used before. With 70 images the bound is at least
# 4.2 %, even if no answer changes; `skipit demo` uses 400.

# %%
certificate = vb.certify(vlm, images("certification", 70), plan, epsilon=0.1, delta=0.05)
print(certificate.sentence())

# %% [markdown]
# ## Savings of the plan, and the effect of freezing the first layers instead

# %%
cost = vb.measure_cost(vlm, images("test", 4), plan, pairs=2)
first = vb.SkipPlan("freeze", plan.n_layers, layers=(0, 1, 2))
harm = vb.compare(vlm, images("test", 16), first).disagreement
print(f"prefill FLOPs skipped/full: {cost.prefill.flops_ratio:.2f}")
low, high = harm.interval
print(f"{first.describe()} changes {harm.value:.0%} of the answers ({low:.0%} to {high:.0%})")

# %% [markdown]
# The claim, as asserts on the result objects.

# %%
assert len(plan.layers) >= 12, plan.describe()
assert not {0, 1} & set(plan.layers), "the first layers are needed"
assert cost.prefill.flops_ratio <= 0.8
assert certificate.n_images == 70
assert certificate.holds, certificate.sentence()
assert harm.interval[0] > certificate.bound, "freezing three first layers does more harm"
