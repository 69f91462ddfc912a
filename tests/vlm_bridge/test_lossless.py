"""Lossless generation: the full model's greedy answers, token for token, whatever drafts."""

from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache

import vlm_bridge as vb
from tests.vlm_bridge.families import FAMILIES, FULL, SITUATIONS, batch, tiny
from tests.vlm_bridge.tiny import batch as llava_batch
from tests.vlm_bridge.tiny import tiny_llava
from vlm_bridge.plan.skip_plan import SkipPlan

L = 4
BLOCK = SkipPlan("block", L, layers=(1,))
SOME = SkipPlan("sublayer", L, attention=(0,), mlp=(2, 3))
ALL = SkipPlan("block", L, layers=(0, 1, 2, 3))
EXIT = SkipPlan("early_exit", L, exit=2)
BOTH = SkipPlan.compose(EXIT, SkipPlan("block", L, layers=(3,)))
PLANS = (BLOCK, SOME, ALL, EXIT, BOTH)
END = 1


def greedy(vlm, inputs, tokens, ends=(END,)):
    """The answers of `generate`, each up to its end of text."""
    made = vlm.model.generate(**inputs, do_sample=False, max_new_tokens=tokens)
    rows = made[:, inputs["input_ids"].shape[1] :].tolist()
    stops = [next((i for i, token in enumerate(r) if token in ends), tokens) for r in rows]
    return tuple(tuple(r[: stop + 1]) for r, stop in zip(rows, stops, strict=True))


def check_counts(found, k):
    """What must hold of the counts whatever was generated."""
    rounds = found.full_passes - 1
    for tokens, drafted, accepted, rejected in zip(
        found.tokens, found.drafted, found.accepted, found.rejected, strict=True
    ):
        assert accepted + rejected <= drafted <= found.draft_passes <= rounds * k
        # The prefill gives one token, and a round the accepted ones and at most one more.
        assert accepted <= len(tokens) - 1 <= accepted + rounds


@pytest.mark.parametrize(
    "name", [n if n in FULL else pytest.param(n, marks=pytest.mark.slow) for n in FAMILIES]
)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_greedy_answers_are_those_of_generate(name, situation):
    """Past the window of Gemma 3, which is six tokens; rows accept different numbers."""
    family = FAMILIES[name]
    vlm, inputs = tiny(family), batch(family, SITUATIONS[situation])
    want = greedy(vlm, inputs, 12)
    for plan, k in zip(PLANS, (1, 3, 2, 5, 8), strict=True):
        found = vb.generate_lossless(vlm, inputs, plan, draft_tokens=k, max_new_tokens=12)
        assert found.tokens == want, (plan.describe(), k)
        check_counts(found, k)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 30),
    plan=st.sampled_from(PLANS),
    k=st.integers(1, 8),
    tokens=st.integers(1, 12),
    rows=st.sampled_from(["single", "padded", "ragged", "no image"]),
    attention=st.sampled_from(["sdpa", "eager"]),
)
def test_random_models(seed, plan, k, tokens, rows, attention):
    vlm, inputs = tiny_llava(seed=seed, attention=attention), llava_batch(rows)
    found = vb.generate_lossless(vlm, inputs, plan, draft_tokens=k, max_new_tokens=tokens)
    assert found.tokens == greedy(vlm, inputs, tokens)
    check_counts(found, k)


def test_the_draft_skips_and_reads_the_full_models_cache():
    """What it accepts is what a model with one layer fewer would say behind the full model's keys.

    The truth by hand: for every place of the answer, the cache of all tokens before it by the full
    model, and the newest token alone through the other layers.
    """
    vlm, inputs = tiny_llava(seed=3), llava_batch("single")
    found = vb.generate_lossless(vlm, inputs, BLOCK, draft_tokens=1, max_new_tokens=12)
    answer = torch.tensor(found.tokens)
    sequence = torch.cat([inputs["input_ids"], answer], 1)
    start, agreed, judged = inputs["input_ids"].shape[1], 0, 0
    for place in range(start, sequence.shape[1] - 1):
        judged += 1
        with torch.no_grad():
            past = vlm.model(
                input_ids=sequence[:, :place], pixel_values=inputs["pixel_values"], use_cache=True
            ).past_key_values
            layer = vlm.layout.layers[1]
            layer.forward = lambda hidden_states, *_, **__: hidden_states
            try:
                logits = vlm.model(
                    input_ids=sequence[:, place : place + 1], past_key_values=past
                ).logits
            finally:
                del layer.forward
        agrees = int(logits[0, -1].argmax()) == int(sequence[0, place + 1])
        agreed += agrees
    # With k = 1 every drafted token is judged; a place behind an accepted one is not drafted.
    assert found.rejected[0] > 0
    assert found.accepted[0] <= agreed
    assert found.rejected[0] <= judged - agreed
    lazy = vb.generate_lossless(vlm, inputs, ALL, draft_tokens=1, max_new_tokens=12)
    assert lazy.tokens == found.tokens
    assert lazy.acceptance_rate < 1


def test_a_plan_of_modality_tokens_drafts_as_the_full_model():
    """All accepted: a round gives k + 1 tokens."""
    vlm, inputs = tiny_llava(seed=1), llava_batch("single")
    vlm.model.generation_config.eos_token_id = None
    found = vb.generate_lossless(vlm, inputs, EXIT, draft_tokens=3, max_new_tokens=13)
    assert (found.accepted, found.rejected, found.drafted) == ((9,), (0,), (9,))
    assert (found.full_passes, found.draft_passes) == (4, 9)
    assert found.acceptance_rate == 1


@pytest.mark.parametrize("k", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("end_at", [0, 1, 2, 3, 4, 5, 9])
def test_an_end_of_text_inside_a_draft(k, end_at):
    """Whatever token ends the text, the answer ends there, drafted or not."""
    vlm, inputs = tiny_llava(seed=5), llava_batch("single")
    vlm.model.generation_config.eos_token_id = None
    whole = vb.generate_lossless(vlm, inputs, EXIT, max_new_tokens=10).tokens[0]
    vlm.model.generation_config.eos_token_id = whole[end_at]
    found = vb.generate_lossless(vlm, inputs, EXIT, draft_tokens=k, max_new_tokens=10)
    assert found.tokens[0] == whole[: whole.index(whole[end_at]) + 1]
    assert found.accepted[0] <= len(found.tokens[0]) - 1


@pytest.mark.parametrize("tokens", range(1, 9))
def test_no_answer_is_longer_than_asked(tokens):
    vlm, inputs = tiny_llava(seed=5), llava_batch("padded")
    vlm.model.generation_config.eos_token_id = None
    found = vb.generate_lossless(vlm, inputs, BLOCK, draft_tokens=4, max_new_tokens=tokens)
    assert [len(row) for row in found.tokens] == [tokens] * 3
    # A last token is never drafted: the full model gives it with the pass that looks.
    assert found.draft_passes <= max(tokens - 1, 0) * 4
    assert tokens > 1 or found.draft_passes == 0


@pytest.mark.parametrize(
    "processor",
    [
        {"repetition_penalty": 1.6},
        {"no_repeat_ngram_size": 2},
        {"suppress_tokens": [7, 9, 11]},
        {"min_new_tokens": 7, "eos_token_id": list(range(4, 12))},
    ],
    ids=lambda settings: next(iter(settings)),
)
@pytest.mark.parametrize("rows", ["single", "padded"])
def test_other_generation_settings_apply_to_every_row(processor, rows):
    """They look at a row's own tokens, whatever the other rows have accepted."""
    for seed in range(4):
        vlm, inputs = tiny_llava(seed=seed), llava_batch(rows)
        for name, value in processor.items():
            setattr(vlm.model.generation_config, name, value)
        ends = vlm.model.generation_config.eos_token_id
        want = greedy(vlm, inputs, 12, ends if isinstance(ends, list) else [ends])
        plan = (BLOCK, SOME)[seed % 2]
        assert vb.generate_lossless(vlm, inputs, plan, max_new_tokens=12).tokens == want


@pytest.mark.parametrize("name", ["LLaVA", "Gemma3"])
def test_a_prompt_in_chunks(name):
    """The first part of the prompt is in a cache already, as for `generate`."""
    family = FAMILIES[name]
    vlm, inputs = tiny(family), batch(family, SITUATIONS["single"])
    ids = inputs["input_ids"]
    want = greedy(vlm, inputs, 10)
    first = {n: v for n, v in inputs.items() if n != "attention_mask"}
    first = {n: v[:, :-3] if v.shape == ids.shape else v for n, v in first.items()}
    cache = DynamicCache(config=vlm.layout.text_config)
    with torch.no_grad():
        vlm.model(**first, past_key_values=cache, use_cache=True)
    rest = {"input_ids": ids, "attention_mask": inputs["attention_mask"], "past_key_values": cache}
    if "token_type_ids" in inputs:
        rest["token_type_ids"] = inputs["token_type_ids"]
    assert vb.generate_lossless(vlm, rest, BLOCK, max_new_tokens=10).tokens == want


def test_a_text_in_chunks_that_generate_makes():
    vlm = tiny_llava(seed=2)
    inputs = llava_batch("no image")
    want = greedy(vlm, inputs, 9)
    vlm.model.generation_config.prefill_chunk_size = 3
    assert vb.generate_lossless(vlm, inputs, SOME, max_new_tokens=9).tokens == want


def logits64(vlm64, inputs, tokens):
    """The logits behind the prompt and behind every token but the last, in float64."""
    ids = torch.cat([inputs["input_ids"], torch.tensor([tokens[:-1]], dtype=torch.long)], 1)
    pixels = inputs["pixel_values"].double()
    with torch.no_grad():
        found = vlm64.model(input_ids=ids, pixel_values=pixels, use_cache=False).logits
    return found[0, inputs["input_ids"].shape[1] - 1 :]


@pytest.mark.parametrize("distance", [0.0, 1e-9, 1e-7])
@pytest.mark.parametrize("seed", range(4))
def test_near_ties(distance, seed):
    """Every token comes as a pair whose logits are equal, or nearly: below rounding.

    The chosen token is one whose float64 logit is within rounding of the best; exact ties go to
    the lower id, as in `generate`.
    """
    vlm, exact = tiny_llava(seed=seed), tiny_llava(seed=seed)
    exact.model.double()
    for model, scale in ((vlm.model, 1 + distance), (exact.model, 1 + distance)):
        head = model.get_output_embeddings()
        with torch.no_grad():
            head.weight[1::2] = head.weight[0::2] * scale
            head.weight[:4] = 0.0  # no placeholder of an image is generated
        model.generation_config.eos_token_id = None
    inputs = llava_batch("single")
    found = vb.generate_lossless(vlm, inputs, SOME, draft_tokens=5, max_new_tokens=12).tokens[0]
    logits = logits64(exact, inputs, found)
    chosen = logits.gather(1, torch.tensor(found)[:, None])[:, 0]
    best = logits.max(1).values
    assert ((best - chosen) <= 1e-4 * best.abs()).all()
    if distance == 0.0:
        assert all(token % 2 == 0 for token in found)
        assert (found,) == greedy(vlm, inputs, 12)


def test_float64_leaves_no_near_ties():
    """In float64 long answers are the same over many models, plans and k."""
    for seed in range(5):
        vlm, inputs = tiny_llava(seed=seed), llava_batch("ragged")
        vlm.model.double()
        inputs["pixel_values"] = inputs["pixel_values"].double()
        want = greedy(vlm, inputs, 30)
        found = vb.generate_lossless(
            vlm, inputs, PLANS[seed], draft_tokens=1 + 2 * seed, max_new_tokens=30
        )
        assert found.tokens == want


class Collected:
    """A streamer that notes what it gets."""

    def __init__(self):
        self.ids, self.ended = [], False

    def put(self, value):
        self.ids += value.flatten().tolist()

    def end(self):
        self.ended = True


def test_a_streamer_gets_prompt_and_tokens():
    vlm, inputs, streamer = tiny_llava(seed=5), llava_batch("single"), Collected()
    found = vb.generate_lossless(vlm, inputs, BLOCK, max_new_tokens=7, streamer=streamer)
    assert streamer.ids == [*inputs["input_ids"][0].tolist(), *found.tokens[0]]
    assert streamer.ended


def own_attributes(vlm):
    return [set(vars(module)) for module in vlm.model.modules()]


def test_a_kill_inside_leaves_the_model_as_it_was():
    class Killer(Collected):
        def put(self, value):
            super().put(value)
            if len(self.ids) > 12:
                raise KeyboardInterrupt

    vlm, inputs = tiny_llava(seed=5), llava_batch("single")
    want = greedy(vlm, inputs, 5)
    before, logits = own_attributes(vlm), vlm.model(**inputs).logits
    with pytest.raises(KeyboardInterrupt):
        vb.generate_lossless(vlm, inputs, BLOCK, max_new_tokens=20, streamer=Killer())
    assert own_attributes(vlm) == before
    assert torch.equal(vlm.model(**inputs).logits, logits)
    with vb.skipping(vlm, BLOCK):  # nobody holds the model any more
        pass
    assert vb.generate_lossless(vlm, inputs, BLOCK, max_new_tokens=5).tokens == want


def test_threads():
    """Calls on one model take turns, and other threads run the full model meanwhile."""
    vlm = tiny_llava(seed=4)
    jobs = [(plan, name) for plan in (BLOCK, SOME) for name in ("single", "padded")]
    want = {name: greedy(vlm, llava_batch(name), 12) for _, name in jobs}
    logits = vlm.model(**llava_batch("single")).logits
    found, wrong, done = [], [], threading.Event()

    def lossless(plan, name):
        made = vb.generate_lossless(vlm, llava_batch(name), plan, max_new_tokens=12)
        found.append(made.tokens == want[name])

    def full():
        inputs = llava_batch("single")
        while not done.is_set():
            with torch.no_grad():
                if not torch.equal(vlm.model(**inputs).logits, logits):
                    wrong.append(True)

    watcher = threading.Thread(target=full)
    workers = [threading.Thread(target=lossless, args=job) for job in jobs * 2]
    watcher.start()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    done.set()
    watcher.join()
    assert found == [True] * 8
    assert not wrong


def test_the_record_survives_json():
    vlm, inputs = tiny_llava(seed=4), llava_batch("padded")
    found = vb.generate_lossless(vlm, inputs, SOME, max_new_tokens=6)
    body = found.to_json()
    assert vb.LosslessTokens.from_json(body) == found
    assert body["acceptance_rate"] == found.acceptance_rate
