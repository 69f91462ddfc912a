"""Conditions on a unit, each as a `Bound` with its assumptions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from estimators import Profile
from estimators.clustered import image_mean
from theory.conditions import (
    Bound,
    functional_gap_from_cosine,
    functional_gap_from_tail,
    kl_from_logit_change,
    margin_certificate,
)
from vlm_bridge.plan.modes import MODES
from vlm_bridge.plan.units import units
from vlm_bridge.rules.measure.information import CLUSTERS, StateConditions
from vlm_bridge.rules.measure.sensitivity import MarginSensitivity

_TAIL = 0.1
_LINEAR = "the network is linear, with norms held, along the removed update"


def sensitivity_bounds(sensitivity: MarginSensitivity, mode: str) -> list[list[Bound]]:
    """Per unit of the mode: S6, share of answers that may change; S7, KL of the two likeliest."""
    flips, bounds = sensitivity.flips(mode), []
    for unit, size in enumerate(np.abs(sensitivity.change[mode]).T):
        # Two logits that move by at most |dm|/2 each change their margin by at most |dm|.
        share = margin_certificate(size / 2.0, sensitivity.margins, lipschitz=1.0)
        kl = np.array([kl_from_logit_change([change, 0.0]).value for change in size])
        divergence = Bound(
            quantity="mean KL between the two likeliest answers, either way",
            value=float(image_mean(kl, sensitivity.clusters)),
            unit="nats",
            statement="S7",
            assumed=(_LINEAR,),
        )
        # The share is a mean over images, since questions about an image are not independent.
        bounds.append([replace(share, value=float(flips[unit]), assumed=(_LINEAR,)), divergence])
    return bounds


def direction_bounds(profile: Profile, groups: Sequence[str]) -> list[list[Bound]]:
    """Per layer: G-F and P-F, how far the directions of the token groups move, at most."""
    at = profile.tail_grid.index(_TAIL)
    means = [profile.values(group, "cosine_distance") for group in groups]
    tails = [[layer[at].value for layer in profile.tails[group]] for group in groups]
    return [
        [
            functional_gap_from_cosine(float(mean)),
            functional_gap_from_tail(tail, threshold=_TAIL),
        ]
        for mean, tail in zip(np.max(means, axis=0), np.max(tails, axis=0).tolist(), strict=True)
    ]


def state_bounds(states: StateConditions, mode: str, unit: int) -> list[Bound]:
    """S14, S9 and S8 for one unit of a mode, in nats and as shares of a head's output.

    freeze l        S14: what the update of l adds to I_V(A; V)    S8: layers that read after l
    block l         S14: what it adds to I_V(A; T)
    early exit b    S14: I_V(A; V_b | T_b), S9: U_V + S at b       S8: layers from b on
    late entry a    S14: what layers before a add to I_V(A; T)     S8: layers before a
    """
    n = len(states.removal)
    plan, removes = units(mode, n)[unit], MODES[mode].removes
    first, after = (0 if plan.entry else unit), unit + 1
    readers = {"freeze": range(after, n), "block": range(0), "unseen": plan.touched_layers}
    if plan.exit is not None:
        usable = states.usable_vision[after]
    else:
        information = states.vision_alone if removes == "freeze" else states.usable_text
        usable = information[after] - information[first]
    bounds = [
        Bound(
            quantity="usable information about the model's own answer that the unit removes",
            kind="exactly",
            value=float(usable),
            unit="nats",
            statement="S14",
            checked=(f"held out, {states.n_images} images",),
            assumed=("the suffix reads no more than a linear probe",),
        )
    ]
    if plan.exit is not None:
        bounds.append(
            Bound(
                quantity="unique vision information and synergy about the model's own answer",
                kind="exactly",
                value=float(states.unique[after] + states.synergistic[after]),
                unit="nats",
                statement="S9",
                assumed=(f"{CLUSTERS} clusters of each state preserve the information",),
            )
        )
    if removes != "block":
        changes = (float(states.removal_bound[j]) for j in readers[removes or "block"])
        bounds.append(
            Bound(
                quantity="largest change of the last token's heads in an affected layer",
                value=max(changes, default=0.0),
                unit="1",
                statement="S8",
                checked=("all values of the prompt",),
            )
        )
    return bounds
