"""What `SkipItSlopes.explain` says, by hand: values and limits on a model of random weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.vlm_bridge.tiny import tiny_llava
from theory.systems import toy_vlm
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.toy import toy_items, toy_llava
from vlm_bridge.plan.units import units
from vlm_bridge.rules import Evidence
from vlm_bridge.rules.skip_it_slopes import SkipItSlopes

N = 4


@pytest.fixture
def evidence(items) -> Evidence:
    """Five images with one, two or three questions."""
    return Evidence(tiny_llava(), items)


@pytest.mark.parametrize("mode", SkipItSlopes().modes)
def test_values_and_limits_by_hand(evidence, mode):
    rule, epsilon = SkipItSlopes(images=4), 0.1
    found = evidence.sensitivity(rule.images, mode)
    wanted = []
    for unit in range(len(units(mode, N))):
        size = np.abs(found.change[mode][:, unit])
        kl = size**2 / 8
        groups = np.array(found.clusters)
        by_image = [kl[groups == name].mean() for name in dict.fromkeys(found.clusters)]
        wanted.append((unit, "S6", found.flips(mode)[unit], 0.1))
        wanted.append((unit, "S7", np.mean(by_image), 0.005))
        if mode in ("block", "freeze"):
            group = "text" if mode == "block" else "image"
            profile = evidence.profile
            mean = profile.values(group, "cosine_distance")[unit]
            share = profile.tails[group][unit][profile.tail_grid.index(0.1)].value
            wanted.append((unit, "G-F", np.sqrt(2 * mean), 0.1))
            wanted.append((unit, "P-F", (1 - share) * np.sqrt(0.2) + 2 * share, 0.1))
    got = rule.explain(evidence, mode, epsilon=epsilon)
    assert [(one.unit, one.bound.statement) for one in got] == [(u, s) for u, s, _, _ in wanted]
    for reason, (_, _, value, limit) in zip(got, wanted, strict=True):
        assert reason.bound.value == pytest.approx(value, rel=1e-6, abs=1e-12)
        assert reason.limit == pytest.approx(limit)
        assert reason.safe == (reason.bound.value <= reason.limit)
        assert reason.margin == pytest.approx(limit - value, rel=1e-6, abs=1e-9)


def test_a_share_of_exactly_epsilon_is_safe(evidence):
    """As S6 in `explain`: at most epsilon."""
    rule = SkipItSlopes()
    flips = evidence.sensitivity(rule.images, "block").flips("block")
    shares = [share for share in flips.tolist() if 0 < share < 1]
    assert shares
    for share in shares:
        wanted = tuple(np.flatnonzero(flips <= share).tolist())
        assert rule.safe(evidence, "block", epsilon=share) == wanted


def test_a_mode_it_has_not_is_refused_everywhere(evidence):
    for ask in (SkipItSlopes().safe, SkipItSlopes().explain):
        with pytest.raises(BridgeError, match="no mode 'token_pruning'"):
            ask(evidence, "token_pruning")


def test_information_is_held_to_a_limit_in_nats(tmp_path):
    """S14 and S9 speak of nats: at most 2 epsilon squared (I-F); S8 of a head: epsilon."""
    toy = toy_vlm()
    evidence = Evidence(toy_llava(toy), toy_items(toy, tmp_path, images=24, questions_per_image=1))
    found = SkipItSlopes().explain(evidence, "early_exit", epsilon=0.1, probes=True)
    limits = {one.bound.statement: one.limit for one in found if one.bound.statement != "S7"}
    nats = {one.bound.statement for one in found if one.bound.unit == "nats"} - {"S7"}
    assert nats
    for statement, limit in limits.items():
        assert limit == pytest.approx(0.02 if statement in nats else 0.1), statement


def test_a_reason_is_a_frozen_record(evidence):
    (first, *_) = SkipItSlopes().explain(evidence, "block", epsilon=0.1)
    worse = replace(first, bound=replace(first.bound, value=first.limit + 0.25))
    assert not worse.safe
    assert worse.margin == pytest.approx(-0.25)
    assert "not safe by -0.25" in str(worse)
