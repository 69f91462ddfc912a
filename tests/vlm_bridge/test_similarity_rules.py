"""CKA, SVCCA, relative errors and interchanged layers as rules, against their definitions."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from estimators import linear_cka
from estimators.clustered import image_mean
from tests.vlm_bridge.held_evidence import Held
from tests.vlm_bridge.tiny import tiny_llava
from vlm_bridge.model.prompts import batches
from vlm_bridge.model.vlm import VLM
from vlm_bridge.rules import Evidence, find_rule, score_units
from vlm_bridge.rules.measure.error_ratios import STEP, error_ratios
from vlm_bridge.rules.published.similarity import correlation, leading


def idle(vlm, *layers):
    """The model with layers that add nothing."""
    for layer in layers:
        vlm.layout.layers[layer].self_attn.o_proj.weight.data.zero_()
        vlm.layout.layers[layer].mlp.down_proj.weight.data.zero_()
    return vlm


def states(*rows):
    return Held(**{"last-token states": np.stack(rows)})


@pytest.mark.parametrize("name", ["cka", "svcca", "relative-error"])
def test_a_layer_that_adds_nothing_scores_zero(name, items):
    evidence = Evidence(idle(tiny_llava(), 1, 3), items)
    score = score_units(find_rule(name), evidence)
    assert np.abs(score[[1, 3]]).max() < 1e-5
    assert np.abs(score[[0, 2]]).min() > 1e-4


def test_cka_and_svcca_do_not_see_a_turn_of_all_states():
    rng = np.random.default_rng(0)
    first, other = rng.normal(size=(2, 30, 6))
    turned = 5.0 * first @ np.linalg.qr(rng.normal(size=(6, 6)))[0]
    made = states(first, turned, other, other)
    for name in ("cka", "svcca"):
        score = score_units(find_rule(name), made)
        assert score[[0, 2]] == pytest.approx([0.0, 0.0], abs=1e-9)
        assert score[1] > 0.2
    assert score_units(find_rule("angular"), made)[0] > 0.2  # the angle does
    wanted = 1.0 - linear_cka(turned, other, clusters=made.clusters).value
    assert score_units(find_rule("cka"), made)[1] == pytest.approx(wanted)


@pytest.mark.parametrize("name", ["cka", "svcca"])
def test_a_layer_that_makes_all_differences_is_needed(name):
    rng = np.random.default_rng(0)
    found = rng.normal(size=(30, 6))
    alike = np.ones((30, 6))
    score = score_units(find_rule(name), states(alike, alike, found, 2 * found))
    assert score == pytest.approx([0.0, 1.0, 0.0], abs=1e-9)


@given(seed=st.integers(0, 999), k=st.integers(1, 5))
def test_correlations_are_those_of_the_best_directions(seed, k):
    """Against the definition: eigenvalues of Sxx^-1 Sxy Syy^-1 Syx are rho squared."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 40, k))
    b = a @ rng.normal(size=(k, k)) + b
    a, b = a - a.mean(0), b - b.mean(0)
    inverse = [np.linalg.inv(side.T @ side) for side in (a, b)]
    squared = np.linalg.eigvals(inverse[0] @ a.T @ b @ inverse[1] @ b.T @ a).real
    bases = [np.linalg.qr(side)[0] for side in (a, b)]
    assert correlation(*bases) == pytest.approx(np.sqrt(np.clip(squared, 0, 1)).mean(), abs=1e-6)


def test_svcca_keeps_what_carries_the_variance():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(80, 10)) * np.array([10.0, 8.0, 6.0, *[0.1] * 7])
    assert leading(rows).shape == (80, 3)
    assert leading(rng.normal(size=(40, 100))).shape == (40, 10)  # a quarter of the questions
    assert leading(rng.normal(size=(3, 3))).shape == (3, 1)


@torch.no_grad()
def test_errors_are_those_of_two_passes_by_hand(items):
    vlm = tiny_llava()
    found = error_ratios(vlm, items, batch_size=4)
    for number, item in enumerate(items[:3]):
        (one,) = batches(vlm, [item], batch_size=1)
        runs = []
        for step in (0.0, STEP):

            def disturb(module, args, kwargs, step=step):
                h = args[0] if args else kwargs.pop("hidden_states")
                noise = torch.randn(h.shape[1:], generator=torch.Generator().manual_seed(0)).flip(0)
                noise = noise / noise.norm(dim=-1, keepdim=True)
                return (h + step * h.norm(dim=-1, keepdim=True) * noise,), kwargs

            handle = vlm.layout.layers[0].register_forward_pre_hook(disturb, with_kwargs=True)
            kept = vlm.model(**one.inputs, output_hidden_states=True).hidden_states
            handle.remove()
            runs.append(kept[1:-1])  # outputs of layers 0 to L - 2; the last is normed
        shares = [float((b - a).norm() / a.norm()) for a, b in zip(*runs, strict=True)]
        rho = np.array(shares[1:]) / np.array(shares[:-1])
        np.testing.assert_allclose(found[number, 1:-1], rho, rtol=2e-3)


def test_errors_do_not_depend_on_the_batch(items):
    vlm = tiny_llava()
    whole, alone = (error_ratios(vlm, items, batch_size=size) for size in (16, 1))
    np.testing.assert_allclose(whole, alone, rtol=5e-3)
    evidence = Evidence(vlm, items)
    score_units(find_rule("relative-error"), evidence)
    assert evidence.spent["relative-error"] == {"growth of errors": 2.0}


@torch.no_grad()
def test_interchange_is_the_model_with_two_layers_swapped(items):
    vlm = tiny_llava()
    evidence = Evidence(vlm, items)
    score = score_units(find_rule("interchange"), evidence)
    pairs = []
    for first in range(3):
        swapped = VLM.of("swapped", copy.deepcopy(vlm.model), vlm.processor)
        own = swapped.layout.layers
        own[first], own[first + 1] = own[first + 1], own[first]
        kl = []
        for item in items:
            (one,) = batches(vlm, [item], batch_size=1)
            p, q = (
                m.model(**one.inputs, use_cache=False).logits[0, -1].log_softmax(-1)
                for m in (swapped, vlm)
            )
            kl.append(float((p.exp() * (p - q)).sum()))
        pairs.append(image_mean(np.array(kl), [item.cluster for item in items]))
    wanted = [pairs[0], (pairs[0] + pairs[1]) / 2, (pairs[1] + pairs[2]) / 2, pairs[2]]
    np.testing.assert_allclose(score, wanted, rtol=1e-3)
    assert min(pairs) > 0
    assert evidence.spent["interchange"]["layers interchanged"] == 2.25


def test_equal_neighbours_commute(items):
    vlm = tiny_llava()
    for name, parameter in vlm.layout.layers[2].named_parameters():
        parameter.data.copy_(dict(vlm.layout.layers[1].named_parameters())[name])
    assert Evidence(vlm, items).interchange_kl()[1] < 1e-9
