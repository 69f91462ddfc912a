"""Pruning at several depths: what its stages keep, and where it is pruning at one depth."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import DynamicCache

from tests.vlm_bridge.skip_cases import L, assert_close, forward, scored, tiny
from tests.vlm_bridge.tiny import BATCHES, batch
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import skipping
from vlm_bridge.skip.pass_state import PassState
from vlm_bridge.skip.pruning import chosen

SELECTS = ("fastv", "random:3", "uniform", "divprune", "dart", "cdpruner", "visionzip")
FORMS = pytest.mark.parametrize("fast", [True, False], ids=["fast", "plain"])
ATTENTIONS = pytest.mark.parametrize("attention", ["sdpa", "eager"])


def progressive(*stages, select="fastv"):
    return SkipPlan("progressive_pruning", L, stages=stages, select=select)


def pruning(after, keep, select="fastv"):
    return SkipPlan("token_pruning", L, after=after, keep=keep, select=select)


def logits(vlm, inputs, plan, fast, **options):
    with skipping(vlm, plan, fast=fast):
        return forward(vlm, inputs, **options).logits


def kept_by(vlm, inputs, plan, fast, **options):
    """Modality positions that exist before any stage and after each, (batch, length) bool."""
    found = []

    def note(*_):
        now = tracker.whole
        found.append([now.flags, *(stage.flags for stage in now.stages)])

    with skipping(vlm, plan, fast=fast) as tracker:
        handle = vlm.layout.layers[-1].register_forward_hook(note)
        output = forward(vlm, inputs, **options)
        handle.remove()
    return found[0], output


@FORMS
@ATTENTIONS
@pytest.mark.parametrize("name", ["padded", "ragged"])
@pytest.mark.parametrize("select", SELECTS)
def test_one_stage_is_token_pruning(select, name, attention, fast):
    vlm, inputs = tiny(attention), batch(name)
    for after in (0, 2) if select != "fastv" else (1, 3):
        one, same = progressive((after, 0.5), select=select), pruning(after, 0.5, select)
        assert torch.equal(logits(vlm, inputs, one, fast), logits(vlm, inputs, same, fast))
        said = []
        for plan in (one, same):
            with skipping(vlm, plan, fast=fast):
                said.append(vlm.model.generate(**inputs, do_sample=False, max_new_tokens=5))
        assert torch.equal(*said)
        assert one.operations == same.operations


@FORMS
@ATTENTIONS
@pytest.mark.parametrize("name", ["padded", "ragged"])
@pytest.mark.parametrize("select", SELECTS)
def test_a_stage_that_keeps_everything_changes_nothing(select, name, attention, fast):
    """Of four and of eight tokens, 95 % are all of them."""
    vlm, inputs = tiny(attention), batch(name)
    real = inputs["attention_mask"].bool()
    plan = progressive((1, 0.95), (3, 0.5), select=select)
    (before, first, second), output = kept_by(vlm, inputs, plan, fast)
    assert torch.equal(first, before)
    assert second.sum() * 2 == before.sum()
    want = logits(vlm, inputs, pruning(3, 0.5, select), fast)
    assert_close(output.logits[real], want[real])


@FORMS
@pytest.mark.parametrize("name", ["padded", "ragged"])
@pytest.mark.parametrize("select", SELECTS)
def test_what_stays_shrinks_by_shares_of_all_tokens(select, name, fast):
    stages = ((1, 0.8), (2, 0.5), (3, 0.01))
    inputs = batch(name)
    kept, _ = kept_by(tiny(), inputs, progressive(*stages, select=select), fast)
    counts = (inputs["input_ids"] == 3).sum(1).tolist()
    for before, after in pairwise(kept):
        assert not (after & ~before).any()
    for (_, share), after in zip(stages, kept[1:], strict=True):
        want = [max(1, round(share * count)) if count else 0 for count in counts]
        assert after.sum(1).tolist() == want


@given(scored(), st.lists(st.sampled_from([0.2, 0.4, 0.6, 0.8]), min_size=2, unique=True))
def test_each_stage_sorts_what_the_stage_before_left(case, shares):
    flags, scores, _ = case
    shares.sort(reverse=True)
    now = PassState(flags, keep=shares)
    there = [[i for i, flag in enumerate(row) if flag] for row in flags.tolist()]
    counts = [len(places) for places in there]
    for number, stage in enumerate(now.stages):
        # Other scores at every stage: those of a token that left would be the highest.
        moved = scores.roll(number, dims=1)
        stage.flags = chosen(moved, now, number)
        for i, places in enumerate(there):
            count = max(1, round(shares[number] * counts[i])) if counts[i] else 0
            there[i] = sorted(sorted(places, key=lambda p: (-moved[i, p].item(), p))[:count])
            assert stage.flags[i].nonzero()[:, 0].tolist() == there[i]


@FORMS
@ATTENTIONS
@pytest.mark.parametrize("seed", [6, 13, 26])
def test_a_dropped_last_token_asks_nothing(seed, attention, fast):
    """A chunk that ends in an image: the last token that is still there gives the scores."""
    vlm = tiny(attention)
    generator = torch.Generator().manual_seed(seed)
    size = vlm.model.config.vision_config.image_size
    inputs = {
        "input_ids": torch.tensor([[5, 6, 3, 3, 3, 3]]),
        "pixel_values": torch.randn(1, 3, size, size, generator=generator),
    }
    plan = progressive((1, 0.75), (2, 0.5), select="fastv")
    stages, output = kept_by(vlm, inputs, plan, fast, use_cache=True)
    assert [int(stage.sum()) for stage in stages] == [4, 3, 2]
    assert not stages[1][0, -1]
    weights = kept_by(tiny("eager"), inputs, plan, False, use_cache=False, output_attentions=True)[
        1
    ].attentions
    text = torch.tensor([True, True] + [False] * 4)
    for layer, before, after in ((0, stages[0], stages[1]), (1, stages[1], stages[2])):
        there = (before[0] | text).nonzero()[:, 0]
        open_ = before[0].nonzero()[:, 0]
        scores = weights[layer][0, :, there[-1], open_].mean(0)
        best = open_[scores.topk(int(after.sum())).indices].sort().values
        assert after[0].nonzero()[:, 0].tolist() == best.tolist()
    with skipping(vlm, plan, fast=not fast):
        assert_close(forward(vlm, inputs).logits, output.logits)


@pytest.mark.parametrize("select", ["fastv", "divprune"])
def test_the_cache_of_a_layer_holds_what_ran_in_it(select):
    vlm, inputs = tiny(), batch("single")
    length = inputs["input_ids"].shape[1]
    plan = progressive((1, 0.75), (2, 0.5), (3, 0.25), select=select)
    with skipping(vlm, plan):
        cache = DynamicCache(config=vlm.layout.text_config)
        forward(vlm, inputs, use_cache=True, past_key_values=cache)
        assert [layer.keys.shape[2] for layer in cache.layers] == [length - i for i in range(4)]
        forward(vlm, {"input_ids": torch.tensor([[5]])}, use_cache=True, past_key_values=cache)
    assert [layer.keys.shape[2] for layer in cache.layers] == [length + 1 - i for i in range(4)]
    assert cache.get_seq_length() == length + 1


@pytest.mark.parametrize("select", ["random:1", "uniform", "divprune", "dart", "cdpruner"])
def test_the_first_stage_may_be_before_the_decoder(select):
    """Every layer runs on as many tokens as the stage leaves, layer 0 too."""
    vlm, inputs = tiny(), batch("single")
    length = inputs["input_ids"].shape[1]
    with skipping(vlm, progressive((0, 0.5), (2, 0.25), select=select)):
        cache = forward(vlm, inputs, use_cache=True).past_key_values
    lengths = [layer.keys.shape[2] for layer in cache.layers]
    assert lengths == [length - 2] * 2 + [length - 3] * 2


def test_a_stage_behind_the_last_layer_does_nothing():
    vlm, inputs = tiny(), batch("padded")
    real = inputs["attention_mask"].bool()
    for select in ("fastv", "divprune"):
        long = progressive((2, 0.5), (L, 0.25), select=select)
        for fast in (True, False):
            found = logits(vlm, inputs, long, fast)[real]
            assert torch.equal(found, logits(vlm, inputs, pruning(2, 0.5, select), fast)[real])
    empty = progressive((L, 0.5))
    assert empty.is_empty
    assert torch.equal(logits(vlm, inputs, empty, True), forward(vlm, inputs).logits)


@pytest.mark.parametrize("name", [name for name in BATCHES if name != "no image"])
@ATTENTIONS
def test_greedy_tokens_of_both_forms(name, attention):
    """Beside the logits: prefill, decoding and beams over caches of different lengths."""
    vlm, inputs = tiny(attention), batch(name)
    for plan in (
        progressive((1, 0.75), (2, 0.5), (3, 0.25)),
        progressive((0, 0.75), (1, 0.5), (3, 0.25), select="cdpruner"),
    ):
        for beams in (1, 3):
            said = []
            for fast in (True, False):
                with skipping(vlm, plan, fast=fast):
                    options = {"max_new_tokens": 6, "min_new_tokens": 6, "num_beams": beams}
                    said.append(vlm.model.generate(**inputs, do_sample=False, **options))
            assert torch.equal(*said)
