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
# # Skip layers where the model is sure
#
# **Claim.** A plan that changes too many answers can be used where its answers are sure: its
# margin tells which answers would change. An adaptive plan gives the unsure ones to the full
# model. It is certified as a fixed plan is, and costs less than the largest fixed plan that is
# certified on the same images.
#
# The model is `reference-smolvlm`, 8 layers, trained from scratch on generated scenes. Layers are
# 0-based. The image is the independent unit, with one question per image.

# %%
import warnings

warnings.filterwarnings("ignore", message="IProgress not found")  # no progress bars in here

import numpy as np

import vlm_bridge as vb
from vlm_bridge.data import limit_per_image, scenes
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.selection.sureness import sureness_of

vlm = vb.load("reference-smolvlm")
EPSILON = 0.05


def images(split: str, count: int) -> list:
    """One question of each of the first `count` images of a split."""
    return limit_per_image(scenes(split), 1)[:count]


tuning, certification, test = (
    images(split, count)
    for split, count in (("tuning", 120), ("certification", 300), ("test", 200))
)

# %% [markdown]
# ## The margin tells which answers change
#
# Freezing vision tokens in the last layers is tried at every depth. The margin of an answer is the
# log-probability of the likeliest token minus that of the second, the least over its tokens.

# %%
plans = [vb.SkipPlan("freeze", 8, layers=tuple(range(first, 8))) for first in range(1, 8)]
full = FullAnswers.ask(vlm, tuning)
sure = {plan: sureness_of(full, vlm, vb.Gate(plan), batch_size=16) for plan in plans}
for plan, found in sure.items():
    changed = found.changed > 0
    lower = found.signals[changed][:, None] < found.signals[~changed]
    auc = f"{lower.mean():.2f}" if changed.any() else "-"
    print(f"{plan.describe()}: {changed.mean():.1%} change; AUC of the margin {auc}")

# %% [markdown]
# ## A fixed plan and an adaptive one, both certified
#
# `search` takes the largest plan whose changed answers are certified; `adaptive_search` chooses a
# plan and a threshold together. Both test their steps in sequence on the same certification
# images. The cost is that of the prefill, fallback included, in units of the full model's FLOPs;
# what a plan and the full model share is computed once.

# %%
fixed = vb.search(vlm, tuning, certification, plans, epsilon=EPSILON)
adaptive = vb.adaptive_search(vlm, tuning, certification, plans, epsilon=EPSILON)
print(f"fixed: {fixed.plan.describe()}")
print(f"adaptive: {adaptive.plan.describe()}")
for certificate in (fixed.certificate, adaptive.certificate):
    print(certificate.sentence())
costs = {each.plan.gates[0].plan.hash(): each.cost.value for each in adaptive.fixed}
cost = costs[fixed.plan.hash()]
print(
    f"prefill FLOPs: fixed {cost:.3f}, adaptive {adaptive.cost.value:.3f} {adaptive.cost.interval}"
)

# %% [markdown]
# ## On test images
#
# Which answers stand, and which of them differ from the full model's, on images that nothing has
# used.

# %%
whole = vb.answer(vlm, test)
answers = vb.adaptive_answers(vlm, test, adaptive.plan)
with vb.skipping(vlm, adaptive.plan.gates[0].plan):
    never_back = vb.answer(vlm, test)
stood = np.array(answers.gates) == 0
differs = np.array([a != b for a, b in zip(answers.texts, whole, strict=True)])
alone = np.array([a != b for a, b in zip(never_back, whole, strict=True)])
print(f"{1 - stood.mean():.1%} went to the full model")
print(f"changed: adaptive {differs.mean():.1%}, its plan without fallback {alone.mean():.1%}")
print(f"changed among those that stood: {differs[stood].mean():.1%}")

# %% [markdown]
# ## Watch it in use
#
# A certificate holds for questions like those it was made with. In use a share of the requests is
# answered by the full model, too; an alarm rings if more than epsilon of the answers change.
# Looking after every request costs nothing: the probability that it ever rings falsely is at most
# 5 %. Here all test questions are audited, under the adaptive plan and under a plan that was never
# certified.

# %%
rings = {}
for name, outcomes in (("adaptive", differs), ("freeze layers 1-7, uncertified", None)):
    if outcomes is None:
        with vb.skipping(vlm, plans[0]):
            outcomes = [a != b for a, b in zip(vb.answer(vlm, test), whole, strict=True)]
    state = vb.Monitor(f"{name}.json", epsilon=EPSILON).add(
        (f"request {number}", bool(changed)) for number, changed in enumerate(outcomes)
    )
    rings[name] = state.alarm.rings
    print(f"{name}: {state.alarm.n_changed} of {state.alarm.n} changed, alarm: {rings[name]}")

# %% [markdown]
# The claim, as asserts on the result objects.

# %%
assert adaptive.certificate.holds, adaptive.certificate.sentence()
assert fixed.certificate.holds, fixed.certificate.sentence()
assert adaptive.certificate.n_images == fixed.certificate.n_images == 300
assert adaptive.cost.interval[1] < cost, "cheaper than the certified fixed plan"
assert np.array_equal(differs[~stood], np.zeros((~stood).sum(), dtype=bool)), (
    "fallback is the full model"
)
assert differs.mean() < alone.mean()
assert not rings["adaptive"]
assert rings["freeze layers 1-7, uncertified"]
