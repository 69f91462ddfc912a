"""What token pruning keeps: the vision the last real token attends to most, ties early."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from transformers import DynamicCache, StaticCache

from tests.vlm_bridge.selectors import relevant_words
from tests.vlm_bridge.skip_cases import assert_close, forward, scored, tiny
from tests.vlm_bridge.tiny import batch, tiny_llava
from vlm_bridge.plan.selectors import SELECTORS
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import pruning, skipping
from vlm_bridge.skip.pass_state import PassState, Rows
from vlm_bridge.skip.pruning import Scored, chosen
from vlm_bridge.skip.tensors import causal, probabilities
from vlm_bridge.skip.tracker import PassTracker

BY_TOKEN = ("input_ids", "attention_mask")


@given(scored())
def test_chosen_by_sorting(case):
    flags, scores, keep = case
    kept = chosen(scores, PassState(flags, keep=[keep]))
    for row, score, found in zip(flags.tolist(), scores.tolist(), kept.tolist(), strict=True):
        places = sorted((i for i, v in enumerate(row) if v), key=lambda i: (-score[i], i))
        count = max(1, round(keep * len(places))) if places else 0
        assert sorted(places[:count]) == [i for i, v in enumerate(found) if v]


@given(scored())
def test_rows_are_right_aligned(case):
    flags, _, _ = case
    rows = Rows(flags, flags.sum(1).tolist())
    for i, row in enumerate(flags.tolist()):
        wanted = [p for p, v in enumerate(row) if v]
        assert rows.index[i].tolist()[len(rows) - len(wanted) :] == wanted
        assert rows.valid[i].sum() == len(wanted)
        assert len(set(rows.index[i].tolist())) == len(rows)
    into = torch.rand(*flags.shape, 2)
    new = torch.rand(len(flags), len(rows), 2)
    out = rows.scatter(into, new)
    assert torch.equal(out[~flags], into[~flags])
    assert torch.equal(out[flags], new[rows.valid])


def kept_by(vlm, inputs, plan, fast):
    kept = []
    with skipping(vlm, plan, fast=fast) as tracker:
        last = vlm.layout.layers[-1].register_forward_hook(
            lambda *_: kept.append(tracker.current.stages[0].flags)
        )
        forward(vlm, inputs)
        last.remove()
    return kept[0]


def padded_on_both_sides():
    """A left-padded batch, and the same prompts with padding on the right."""
    left = batch("padded")
    right = dict(left)
    for name in BY_TOKEN:
        rolled = [
            row.roll(int(m.sum()))
            for row, m in zip(left[name], left["attention_mask"], strict=True)
        ]
        right[name] = torch.stack(rolled)
    return left, right


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_score_is_the_attention_of_the_last_real_token(attention):
    """Against the weights that eager attention gives out, on a right-padded batch too."""
    eager, plan = tiny("eager"), SkipPlan("token_pruning", 4, after=2, keep=0.5)
    for inputs in padded_on_both_sides():
        weights = forward(eager, inputs, output_attentions=True).attentions[1].mean(1)
        for fast in (True, False):
            kept = kept_by(tiny(attention), inputs, plan, fast)
            assert kept.sum(1).tolist() == [2, 2, 2]
            for i, mask in enumerate(inputs["attention_mask"]):
                last = int(mask.nonzero().max())
                image = (inputs["input_ids"][i] == 3).nonzero()[:, 0]
                best = image[weights[i, last, image].topk(2).indices].sort().values
                assert torch.equal(kept[i].nonzero()[:, 0], best)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_sparsevlm_is_the_attention_of_its_raters(attention):
    """Against the weights that eager attention gives out; FastV keeps other tokens somewhere."""
    eager, differs = tiny("eager"), 0
    for after in (1, 2, 3):
        plan = SkipPlan("token_pruning", 4, after=after, keep=0.5, select="sparsevlm")
        by_last = SkipPlan("token_pruning", 4, after=after, keep=0.5)
        for inputs in padded_on_both_sides():
            outputs = forward(eager, inputs, output_attentions=True, output_hidden_states=True)
            kept = [kept_by(tiny(attention), inputs, plan, fast) for fast in (True, False)]
            assert torch.equal(*kept)
            differs += not torch.equal(kept[0], kept_by(tiny(attention), inputs, by_last, True))
            for i, mask in enumerate(inputs["attention_mask"].bool()):
                image = inputs["input_ids"][i] == 3
                states = outputs.hidden_states[after - 1][i][mask]
                words = mask.nonzero()[:, 0][relevant_words(states, image[mask])]
                weights = outputs.attentions[after - 1][i].mean(0)[words].mean(0)
                places = image.nonzero()[:, 0]
                best = places[weights[places].topk(2).indices].sort().values
                assert torch.equal(kept[0][i].nonzero()[:, 0], best)
    assert differs


@pytest.mark.parametrize("select", SELECTORS)
def test_a_batch_keeps_what_its_prompts_keep_alone(select):
    """Padding is no word: its states, which are large here, choose nothing."""
    for seed in range(4):
        vlm = tiny_llava(seed=seed)
        torch.nn.init.normal_(vlm.layout.decoder.embed_tokens.weight.data[0])
        for after in (1, 2):
            plan = SkipPlan("token_pruning", 4, after=after, keep=0.5, select=select)
            for inputs in padded_on_both_sides():
                together = kept_by(vlm, inputs, plan, True)
                for i, mask in enumerate(inputs["attention_mask"].bool()):
                    alone = {name: inputs[name][i : i + 1, mask] for name in BY_TOKEN}
                    alone["pixel_values"] = inputs["pixel_values"][i : i + 1]
                    assert torch.equal(kept_by(vlm, alone, plan, True)[0], together[i][mask])


def test_right_padding_chooses_as_left_padding_does():
    plan, inputs = SkipPlan("token_pruning", 4, after=1, keep=0.25), batch("single")
    extra = {name: inputs[name].clone() for name in inputs}
    extra["input_ids"] = torch.nn.functional.pad(inputs["input_ids"], (0, 3))
    extra["attention_mask"] = torch.nn.functional.pad(inputs["attention_mask"], (0, 3))
    with skipping(tiny(), plan):
        short = forward(tiny(), inputs).logits
        long = forward(tiny(), extra).logits[:, : short.shape[1]]
    assert_close(long, short)


def recording_scores(monkeypatch):
    """The scores of every choice, (batch, t) each, as they come."""
    seen = []

    def record(scores, now, stage):
        seen.append(scores)
        return chosen(scores, now, stage)

    monkeypatch.setattr(pruning, "chosen", record)
    return seen


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("select", ["fastv", "sparsevlm"])
def test_scores_are_attention_with_and_without_a_mask(select, masked, monkeypatch):
    """Without padding sdpa gets no mask, and each rater sees what is before it."""
    inputs, seen = batch("single"), recording_scores(monkeypatch)
    outputs = forward(tiny("eager"), inputs, output_attentions=True, output_hidden_states=True)
    if not masked:
        inputs = {name: value for name, value in inputs.items() if name != "attention_mask"}
    image = inputs["input_ids"][0] == 3
    for after in (1, 3):
        plan = SkipPlan("token_pruning", 4, after=after, keep=0.5, select=select)
        rows = [-1]
        if select == "sparsevlm":
            rows = relevant_words(outputs.hidden_states[after - 1][0], image)
            assert min(rows) < len(image) - 1
        expected = outputs.attentions[after - 1][0].mean(0)[rows].mean(0)
        kept_by(tiny("sdpa" if not masked else "eager"), inputs, plan, True)
        torch.testing.assert_close(seen.pop()[0], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("static", [False, True])
def test_chunks_of_image_are_scored_with_what_is_before_them(static, monkeypatch):
    """The decoder alone, without masks: text, one image token, then three of which one stays."""
    vlm = tiny()
    config, layer = vlm.layout.text_config, vlm.layout.layers[0]
    cache = StaticCache(config=config, max_cache_len=9) if static else DynamicCache(config=config)
    tracker, seen = PassTracker(vlm.layout, keep=[0.4]), recording_scores(monkeypatch)
    scored = Scored.of(0, layer, tracker)
    states = torch.randn(1, 7, 32, generator=torch.Generator().manual_seed(0))
    for start, stop in ((0, 3), (3, 4), (4, 7)):
        now = states[:, start:stop]
        tracker.begin(torch.full((1, stop - start), start > 0))
        keys = 9 if static else stop
        mask = causal(stop - start, start, keys, now.dtype, now.device)
        rotary = vlm.layout.decoder.rotary_emb(now, torch.arange(start, stop)[None])
        with torch.no_grad():
            scored(
                now,
                attention_mask=None if stop - start == 1 and not static else mask,
                past_key_values=cache,
                position_embeddings=rotary,
            )
        if start == 3:
            assert tracker.current.stages[0].flags.tolist() == [[True]]
    whole = tiny("eager").layout.layers[0]
    rotary = vlm.layout.decoder.rotary_emb(states, torch.arange(7)[None])
    triangle = causal(7, 0, 7, states.dtype, states.device)
    weights = whole.self_attn(
        whole.input_layernorm(states), position_embeddings=rotary, attention_mask=triangle
    )[1]
    for scores, (start, stop) in zip(seen, ((3, 4), (4, 7)), strict=True):
        expected = weights[:, :, stop - 1, start:stop].mean(1)
        torch.testing.assert_close(scores, expected, atol=1e-6, rtol=1e-5)
    best = int(weights[0, :, -1, 4:].mean(0).argmax())
    assert tracker.current.stages[0].flags[0].tolist() == [place == best for place in range(3)]


def test_guesses_behind_the_last_token_have_no_part_in_its_scores(monkeypatch):
    """Assisted decoding: without a mask, too, the last token of the prompt sees no guess."""
    vlm, found, run = tiny(), [], Scored._scores
    monkeypatch.setattr(Scored, "_scores", lambda *args: found.append(run(*args)) or found[-1])
    states = torch.randn(1, 9, 32, generator=torch.Generator().manual_seed(0))
    for length in (6, 9):
        tracker = PassTracker(vlm.layout, keep=[0.5])
        tracker.begin(torch.tensor([[False] + [True] * 4 + [False] * (length - 5)]))
        tracker.current.last = torch.tensor([[5]])
        rotary = vlm.layout.decoder.rotary_emb(states, torch.arange(length)[None])
        scored = Scored.of(0, vlm.layout.layers[0], tracker)
        with torch.no_grad():
            scored(states[:, :length], attention_mask=None, position_embeddings=rotary)
    assert_close(found[1][:, :6], found[0])
    assert found[1][:, 6:].abs().max() == 0


def test_probabilities_are_those_of_attention():
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 7, 8), torch.randn(2, 2, 7, 8)
    mask = torch.ones(5, 7, dtype=torch.bool).tril(2)
    wide = [x.repeat_interleave(2, 1) for x in (k, v)]
    sdpa = torch.nn.functional.scaled_dot_product_attention(q, *wide, attn_mask=mask)
    additive = torch.zeros(5, 7).masked_fill(~mask, -1e30)
    for given_mask in (None, mask[None, None], additive[None, None]):
        torch.testing.assert_close(probabilities(q, k, given_mask) @ wide[1], sdpa)
    capped = probabilities(q, k, mask[None, None], scaling=0.3, softcap=2.0)
    scores = 2 * torch.tanh(q @ wide[0].mT * 0.3 / 2)
    torch.testing.assert_close(capped, scores.masked_fill(~mask, -torch.inf).softmax(-1))
