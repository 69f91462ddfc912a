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
# # Your own representations: profile any network from its cached states
#
# **Claim.** From hidden states cached with any hook library, `profile_states` finds the layer that
# moves the answer to the last token, where it is predicted. Skipping confirms the result: that
# layer is needed, and the layers after it are not.
#
# The network is the GPT-2 of `transformers` with six layers of width 64. It is trained below in a
# few seconds. Its input is a row of ten colours followed by a place; the answer is the colour at
# that place.

# %%
import os
import warnings

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
warnings.filterwarnings("ignore", message="IProgress")  # no progress widgets here

import matplotlib.pyplot as plt
import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from estimators import linear_cka, profile_states

torch.set_num_threads(1)  # more threads do not help with small matrices
COLOURS, PLACES, LAYERS = 8, 10, 6


def questions(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens (n, PLACES + 1), the colours followed by the place, and answers (n,)."""
    random = torch.Generator().manual_seed(seed)
    colours = torch.randint(COLOURS, (n, PLACES), generator=random)
    place = torch.randint(PLACES, (n, 1), generator=random)
    return torch.cat((colours, COLOURS + place), 1), colours.gather(1, place)[:, 0]


def network() -> GPT2LMHeadModel:
    """A network with random weights."""
    torch.manual_seed(0)
    sizes = {"n_embd": 64, "n_layer": LAYERS, "n_head": 4, "n_positions": PLACES + 1}
    no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    words = {"vocab_size": COLOURS + PLACES, "bos_token_id": None, "eos_token_id": None}
    return GPT2LMHeadModel(GPT2Config(**sizes, **no_dropout, **words))


def logits(model: GPT2LMHeadModel, tokens: torch.Tensor) -> torch.Tensor:
    """Logits (n, COLOURS) of the colours at the last token."""
    return model(input_ids=tokens, logits_to_keep=1).logits[:, -1, :COLOURS]


@torch.no_grad()
def accuracy(model: GPT2LMHeadModel, tokens: torch.Tensor, answers: torch.Tensor) -> float:
    """Share of correct answers."""
    return float((logits(model, tokens).argmax(1) == answers).float().mean())


# %%
model = network()
optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
for step in range(120):
    tokens, answers = questions(128, seed=1000 + step)
    loss = torch.nn.functional.cross_entropy(logits(model, tokens), answers)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
test_tokens, test_answers = questions(600, seed=1)
print(f"accuracy on new questions: {accuracy(model, test_tokens, test_answers):.1%}")

# %% [markdown]
# ## Cache states with hooks, as any hook library does
#
# The order of the outputs does not matter: `profile_states` sorts them by the layer number in their
# names, with the embedding first. If a layer returns a tuple, its first element is used.


# %%
def keeping(cache: dict[str, object], name: str):
    """A hook that stores the output of its module."""

    def keep(module, inputs, output) -> None:
        cache[name.replace("drop", "embedding")] = output

    return keep


@torch.no_grad()
def cached(model: GPT2LMHeadModel, tokens: torch.Tensor) -> dict[str, object]:
    """Outputs of the embedding and of every layer, by module name."""
    cache: dict[str, object] = {}
    handles = []
    for name, module in model.named_modules():
        if name == "transformer.drop" or name.removeprefix("transformer.h.").isdigit():
            handles.append(module.register_forward_hook(keeping(cache, name)))
    logits(model, tokens)
    for handle in handles:
        handle.remove()
    return cache


cache = cached(model, test_tokens)
print(", ".join(cache))

asks = np.zeros(tuple(test_tokens.shape), dtype=bool)
asks[:, -1] = True
geometry = profile_states(cache, token_groups={"colours": ~asks, "question": asks}, model="GPT-2")
random_geometry = profile_states(
    cached(network(), test_tokens), token_groups={"colours": ~asks, "question": asks}
)
about = profile_states(cache, test_answers, token_groups={"question": asks}, model="GPT-2")

# %% [markdown]
# ## Effect of each layer on the last token
#
# The usable information about the answer is 0 nats at chance; the entropy of the answer is
# ln 8 = 2.08 nats. The column "random copy" is the cosine distance in the null model, a network of
# the same architecture with random weights.

# %%
gain = about.estimates("question", "usable_information")
before = about.estimates("question", "usable_information_before")
print(f"{'layer':<7}{'usable, nats':>22}{'cosine distance':>18}{'random copy':>13}{'CKA':>7}")
for layer in range(LAYERS):
    low, high = gain[layer].interval
    value = f"{gain[layer].value:.2f} [{low:.2f}, {high:.2f}]"
    moved = geometry.values("question", "cosine_distance")[layer]
    null = random_geometry.values("question", "cosine_distance")[layer]
    alike = geometry.values("question", "cka")[layer]
    print(f"{layer:<7}{value:>22}{moved:>18.3f}{null:>13.3f}{alike:>7.2f}")

# %% [markdown]
# ## Does the profile predict which layers can be skipped?
#
# Each layer is skipped in turn, for all tokens. The cell prints the usable information that the
# layer adds and the change in accuracy without it.


# %%
@torch.no_grad()
def drop_without(layer: int) -> float:
    """Drop in accuracy when one layer is skipped for all tokens."""
    handle = model.transformer.h[layer].register_forward_hook(
        lambda _, inputs, output: (
            (inputs[0], *output[1:]) if isinstance(output, tuple) else inputs[0]
        )
    )
    left = accuracy(model, test_tokens, test_answers)
    handle.remove()
    return accuracy(model, test_tokens, test_answers) - left


usable = np.array([one.value for one in gain])
added = usable - np.array([one.value for one in before])
drops = np.array([drop_without(layer) for layer in range(LAYERS)])
for layer in range(LAYERS):
    points = 100 * -drops[layer] + 0.0
    print(f"layer {layer}: adds {added[layer]:+.2f} nats, accuracy without it {points:+.1f} points")

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
low, high = np.array([one.interval for one in gain]).T
axes[0].axhline(np.log(COLOURS), color="#222222", lw=1, label="all there is, ln 8")
axes[0].plot(usable, "o-", color="#0072B2", label="usable, after the layer")
axes[0].fill_between(range(LAYERS), low, high, color="#0072B2", alpha=0.25, lw=0)
axes[0].set_ylabel("nats about the answer")
axes[1].plot(100 * drops, "s-", color="#D55E00", label="drop in accuracy without it, points")
moved = geometry.values("question", "cosine_distance")
axes[1].plot(
    100 * moved / moved.max(), "o--", color="#767676", label="cosine distance, % of largest"
)
for ax in axes:
    ax.set_xlabel("layer (0-based)")
    ax.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# ## Comparison of two networks
#
# CKA compares the states of two networks at one layer; here the trained network and the null model
# are compared at the last layer. The estimate is debiased: its expectation is 0 for independent
# states, even with few rows for 64 columns.

# %%
other = cached(network(), test_tokens)
last = f"transformer.h.{LAYERS - 1}"
opened = [c[last][0] if isinstance(c[last], tuple) else c[last] for c in (cache, other)]
trained_and_random = linear_cka(opened[0][:, -1], opened[1][:, -1])
print(trained_and_random)

# %% [markdown]
# The command line offers the same: save the states with
# `safetensors.torch.save_file(cache, "states.safetensors")` and run
# `skipit profile states.safetensors --last-token`.
#
# The claim, as asserts on the result objects.

# %%
arrival = int(np.argmax(added))
assert accuracy(model, test_tokens, test_answers) > 0.95
assert abs(before[0].value) < 0.1, "the question alone does not know the answer"
assert gain[-1].value > 0.9 * np.log(COLOURS)
assert added[arrival] > 1.0
assert drops[arrival] > 0.5, "where the answer arrives nothing can be skipped"
assert np.delete(drops, arrival).max() < 0.05, "and where nothing arrives everything can"
assert moved.argmax() == arrival, "here the geometry agrees"
assert trained_and_random.value < 0.1
