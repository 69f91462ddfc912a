"""The verbs on stacks: prune, cost, profile, first tokens and answers of encoder-decoders."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from tests.vlm_bridge.command_line import run
from tests.vlm_bridge.families.stacks import CASES, L, StackCase, model
from tests.vlm_bridge.skip_cases import assert_close, forward
from tests.vlm_bridge.tiny import tiny_llava, tokenizer
from tests.vlm_bridge.words import Hearing, Words
from vlm_bridge.cost import cache_bytes, cost_of_inputs, count_flops
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import answer, answer_batch
from vlm_bridge.evaluate.compare import compare
from vlm_bridge.evaluate.first_token import first_tokens
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.evaluate.sweep import sweep, sweep_plans
from vlm_bridge.model import encoder_decoder
from vlm_bridge.model.encoder_decoder import with_decoder_start, with_own_answer
from vlm_bridge.model.finite import BrokenModel
from vlm_bridge.model.prompts import Batch, batches
from vlm_bridge.model.vlm import VLM, load
from vlm_bridge.observe.collector import Collector
from vlm_bridge.observe.hooks import capturing_states
from vlm_bridge.observe.profile import profile
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules.evidence import check_profile
from vlm_bridge.selection import search
from vlm_bridge.selection.tuning import supported_only, work_by_stack
from vlm_bridge.skip import skipping
from vlm_bridge.skip.export import prune

WHISPER = StackCase("Whisper", "audio")
TEXT = StackCase("mBART", "encoder")
AUDIO_BLOCK = SkipPlan("block", L, layers=(1, 3), stack="audio")


def refused(message):
    return pytest.raises(BridgeError, match=re.escape(message))


def speaking(case, **changes):
    vlm = VLM.of(case.name, changes.pop("model", None) or model(case.name), None)
    return replace(vlm, processor=Words())


def batch_of(case, n=3):
    items = tuple(Item(f"{i}.png", "what is said?") for i in range(n))
    return Batch(items, tuple(range(n)), case.inputs(n))


# Answers


@pytest.mark.parametrize("case", [WHISPER, TEXT], ids=lambda case: case.name)
def test_answers_are_what_generate_says_after_the_start(case):
    vlm, batch = speaking(case), batch_of(case)
    answers = answer_batch(vlm, batch, max_new_tokens=5)
    made = vlm.model.generate(**batch.inputs, do_sample=False, max_new_tokens=5)
    start = with_decoder_start(vlm, batch.inputs)["decoder_input_ids"]
    if case is TEXT:  # Whisper's returns the answer alone
        assert torch.equal(made[:, : start.shape[1]], start)
        made = made[:, start.shape[1] :]
    assert answers.texts == tuple(Words().batch_decode(made, True))
    logits = forward(vlm, {**batch.inputs, "decoder_input_ids": start}).logits[:, -1]
    assert_close(answers.log_probs, logits.log_softmax(-1))
    with skipping(vlm, SkipPlan("block", L, layers=(0, 1), stack=case.stack)):
        skipped = answer_batch(vlm, batch, max_new_tokens=5)
    assert (skipped.log_probs - answers.log_probs).abs().max() > 1e-3


def test_an_answer_longer_than_the_decoder():
    with refused("Whisper has positions for 24 tokens of an answer and its start; ask for at most"):
        answer_batch(speaking(WHISPER), batch_of(WHISPER), max_new_tokens=21)
    assert answer_batch(speaking(WHISPER), batch_of(WHISPER), max_new_tokens=20).texts


@pytest.mark.parametrize("case", [WHISPER, TEXT], ids=lambda case: case.name)
def test_first_tokens_of_plans_of_every_stack(case):
    vlm, batch = speaking(case), batch_of(case)
    blocks = [SkipPlan("block", L, layers=(i,), stack=case.stack) for i in range(L)]
    plans = [*blocks, SkipPlan("block", L, layers=(2,)), SkipPlan("sublayer", L, mlp=(3,))]
    plans.append(SkipPlan.compose(plans[0], plans[-1]))
    full, skipped = first_tokens(vlm, batch, plans)
    inputs = with_decoder_start(vlm, batch.inputs)
    assert_close(full, forward(vlm, inputs).logits[:, -1].log_softmax(-1))
    for plan, found in zip(plans, skipped, strict=True):
        with skipping(vlm, plan):
            assert_close(found, forward(vlm, inputs).logits[:, -1].log_softmax(-1))


def test_a_broken_encoder_decoder_is_refused():
    vlm = VLM.of("Whisper", type(model("Whisper"))(model("Whisper").config).eval(), None)
    with torch.no_grad():
        vlm.layout.layers[2].fc2.bias.fill_(float("nan"))
    with pytest.raises(BrokenModel, match="outputs of layer 2 are NaN at answer tokens"):
        answer_batch(replace(vlm, processor=Words()), batch_of(WHISPER), max_new_tokens=3)


# Items


@pytest.fixture
def recordings(tmp_path):
    draw, items = np.random.default_rng(0), []
    for number in range(4):
        path = tmp_path / f"{number}.wav"
        samples = draw.normal(size=9000 + 2000 * number).astype(np.float32) / 10
        wavfile.write(path, 16_000, samples)
        items.append(Item(None, "what is said?", "7 7", audio=path))
    return items


def test_recordings_from_items_to_certificate(recordings, tmp_path):
    vlm = replace(speaking(WHISPER), processor=Hearing())
    batch = next(batches(vlm, recordings, batch_size=4))
    assert {name: value.shape for name, value in batch.inputs.items()} == {
        "input_features": (4, 8, 16)
    }
    mute = replace(AUDIO_BLOCK, layers=())
    same = compare(vlm, recordings, mute, max_new_tokens=4)
    assert (same.disagreement.value, same.n_images) == (0, 4)
    plan = SkipPlan.compose(AUDIO_BLOCK, SkipPlan("block", L, layers=(0, 1, 2)))
    found = compare(vlm, recordings, plan, max_new_tokens=4)
    assert found.kl_full_skipped.value > 1e-3
    full = FullAnswers.ask(vlm, recordings, max_new_tokens=4)
    outcomes = full.outcomes(vlm, plan)
    assert np.mean(outcomes.disagree) == found.disagreement.value
    chosen = search(
        vlm, recordings[:2], recordings[2:], [AUDIO_BLOCK, plan], epsilon=0.99, max_new_tokens=1
    )
    assert all(step.saving > 0 for step in chosen.path)
    measured = profile(vlm, recordings, stack="audio")
    assert (measured.groups, measured.n_rows["audio"]) == (("audio",), 4 * 8)


def test_whisper_from_a_folder_hears(recordings, tmp_path):
    WHISPER.vlm.model.save_pretrained(tmp_path / "whisper")
    fresh = tokenizer.__wrapped__()  # the shared one is saved with the processor that used it last
    for part in (Hearing.feature_extractor, fresh):
        part.save_pretrained(tmp_path / "whisper")
    vlm = load(tmp_path / "whisper")
    assert type(vlm.processor).__name__ == "WhisperProcessor"
    assert vlm.fingerprint
    batch = next(batches(vlm, recordings, batch_size=4))
    hearing = replace(speaking(WHISPER), processor=Hearing())
    right = next(batches(hearing, recordings, batch_size=4))
    assert torch.equal(batch.inputs["input_features"], right.inputs["input_features"])
    assert len(answer(vlm, recordings, max_new_tokens=3)) == 4


def test_what_an_encoder_decoder_does_not_read(recordings, tmp_path):
    vlm = replace(speaking(WHISPER), processor=Hearing())
    text = Item(None, "why?")
    with refused("takes no questions alone, and the question 'why?' is about neither image nor"):
        next(batches(vlm, [text]))
    with refused("reads nothing but recordings, so that it cannot be asked without one"):
        next(batches(vlm, recordings, with_images=False))
    with refused("takes no recordings"):
        next(batches(speaking(TEXT), recordings))
    long = tmp_path / "long.wav"
    wavfile.write(long, 16_000, np.ones(19_200, dtype=np.float32) / 10)
    with refused("lasts 1.2 s, and the model's feature extractor reads 1 s; cut it into several"):
        next(batches(vlm, [Item(None, "what?", audio=long)]))


# Cost


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}/{case.stack}")
def test_the_prefill_counts_the_layers_of_every_stack(case):
    """Each of the layers of a stack costs the same: two of four cost half of all."""
    inputs = with_decoder_start(case.vlm, case.inputs(1))
    plans = [
        SkipPlan("block", L, layers=layers, stack=case.stack)
        for layers in ((), (1, 2), (0, 1, 2, 3))
    ]
    flops = []
    for plan in plans:
        with skipping(case.vlm, plan):
            flops.append(count_flops(lambda: forward(case.vlm, inputs, use_cache=False)))
    assert flops[0] - flops[1] == flops[1] - flops[2] > 0


def test_cost_of_an_encoder_decoder():
    inputs = WHISPER.inputs(2)
    cost = cost_of_inputs(WHISPER.vlm, inputs, AUDIO_BLOCK, pairs=1, tokens=3)
    assert (cost.batch_size, cost.length) == (2, 1)
    assert cost.prefill.flops_ratio < 1
    assert cost.kv_bytes_full == cost.kv_bytes_skipped  # the decoder is whole
    output = forward(WHISPER.vlm, with_decoder_start(WHISPER.vlm, inputs), use_cache=True)
    own, cross = 2 * L * 2 * 16 * 4, 2 * L * 2 * 8 * 16 * 4  # keys and values, of 2 sequences
    assert cache_bytes(output.past_key_values) == cost.kv_bytes_full == own + cross
    blocked = SkipPlan("block", L, layers=(0, 1, 2))
    assert cost_of_inputs(WHISPER.vlm, inputs, blocked, pairs=1).kv_ratio < 0.5


# Profiles and captures


def collected(case, n=3, clusters=("a", "b", "c")):
    collector = Collector(L, stack=case.stack)
    collector.run(case.vlm, case.inputs(n), list(clusters[:n]))
    return collector.profile(case.name)


@pytest.mark.parametrize(
    ("case", "groups", "rows"),
    [
        (StackCase("LLaVA", "vision"), ("image",), 3 * 5),
        (StackCase("Qwen2-Audio", "audio"), ("audio",), 3 * 8),
        (StackCase("Voxtral", "audio"), ("audio",), 3 * 8),
        (WHISPER, ("audio",), 3 * 8),
        (TEXT, ("text",), 7 + 5 + 5),
    ],
    ids=lambda value: value.name if isinstance(value, StackCase) else "",
)
def test_profile_of_an_encoder(case, groups, rows):
    states = {}
    found = collected(case)
    assert found.groups == groups
    assert found.n_rows[groups[0]] == rows
    assert found.n_layers == L
    inputs = with_decoder_start(case.vlm, case.inputs(3))

    def keep(layer, before, after):
        states[layer] = 1 - torch.cosine_similarity(before.double(), after.double(), dim=-1)

    with capturing_states(case.vlm, keep, stack=case.stack):
        forward(case.vlm, inputs)
    real = inputs.get("attention_mask", torch.ones(3, 8)) if case is TEXT else torch.ones(3, 1)
    for layer in range(L):
        expected = states[layer][real.bool().expand(states[layer].shape)].mean()
        measured = found.values(groups[0], "cosine_distance")[layer]
        assert measured == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize(
    ("ends", "kept"),
    [(None, [6, 6, 6]), (9, [3, 6, 6]), ([9, 5], [3, 2, 6]), ([2], [6, 6, 4])],
)
def test_the_decoder_of_an_encoder_decoder_is_profiled_on_its_own_answer(ends, kept, monkeypatch):
    case = StackCase("Whisper", "decoder")
    assert with_own_answer(case.vlm, case.inputs(3), 64)["decoder_input_ids"].shape == (3, 21)
    said = torch.tensor([[2, 7, 9, 8, 8, 8], [2, 5, 7, 7, 7, 7], [2, 7, 7, 2, 2, 2]])
    monkeypatch.setattr(encoder_decoder, "_generated", lambda *_: said)
    monkeypatch.setattr(case.vlm.model.generation_config, "eos_token_id", ends)
    found = collected(case)
    assert with_own_answer(case.vlm, {}, 9)["decoder_attention_mask"].sum(1).tolist() == kept
    assert found.groups == ("text",)
    assert found.n_rows["text"] == sum(kept)


def test_rows_of_unknown_images():
    """All patches of all images stand in one row; of one image it is known whose they are."""
    case = StackCase("Qwen2.5-VL", "vision")
    with refused("runs on rows that are not one for each sequence"):
        collected(case)
    found = collected(case, clusters=("a", "a", "a"))
    assert found.n_rows == {"image": 3 * 16}


def test_a_profile_of_a_stack_through_the_verb(items):
    vlm = tiny_llava()
    found = profile(vlm, items, stack="vision")
    assert (found.n_layers, found.groups) == (2, ("image",))
    assert found.index_convention.endswith("layers are those of the vision encoder")
    with refused("is of the vision encoder of tiny, and layers of the decoder are to be ranked"):
        check_profile(vlm, found)
    assert profile(vlm, items, stack="vision") == found
    with refused("has no stack 'audio'; it has vision, decoder"):
        profile(vlm, items, stack="audio")


# Search and sweep


def test_sweep_and_search_with_plans_of_an_encoder(items):
    vlm = tiny_llava()
    plans = sweep_plans(2, modes=["block", "sublayer"], stack="vision")
    assert [plan.stack for plan in plans] == ["vision"] * 6
    swept = sweep(vlm, items, plans)
    assert [found.plan for found in swept] == plans
    assert any(found.kl_full_skipped.value > 1e-6 for found in swept)
    both = SkipPlan.compose(plans[1], SkipPlan("block", 4, layers=(3,)))
    first = items[0].cluster
    tuning, rest = (
        [item for item in items if (item.cluster == first) is kept] for kept in (True, False)
    )
    calm = tiny_llava(scale=1.0)  # its answers change with few of its layers
    found = search(calm, tuning, rest, [plans[1], both], epsilon=0.9, delta=0.5, max_new_tokens=2)
    assert {step.plan.stack for step in found.path} <= {"vision", "vision+decoder"}
    assert found.path
    other = SkipPlan("block", 2, layers=(0,), stack="audio")
    assert supported_only(vlm, [other, plans[0]]) == [plans[0]]


def test_shares_of_the_work_are_those_of_the_flops(items):
    vlm = tiny_llava()
    work = work_by_stack(vlm, items)
    assert sum(work.values()) == pytest.approx(1)
    assert set(work) == {"vision", "decoder"}
    vision = 2 * (4 * 16 * 16 + 2 * 16 * 32) * 5  # 2 layers, 5 positions
    decoder = 4 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48)
    length = 4 + len(tokenizer()(f"user : {items[0].question}")["input_ids"])
    assert work["vision"] / work["decoder"] == pytest.approx(vision / (decoder * length), rel=0.1)


# Prune


PRUNED = [case for case in CASES if case.name not in ("Qwen3-VL", "BART")]


@pytest.mark.parametrize("case", PRUNED, ids=lambda case: f"{case.name}/{case.stack}")
def test_a_pruned_stack_answers_as_the_plan(case, tmp_path):
    plan = SkipPlan("block", L, layers=(0, 2), stack=case.stack)
    folder = prune(case.vlm, plan, tmp_path / "smaller")
    smaller = type(case.vlm.model).from_pretrained(folder).eval()
    vlm = VLM.of("smaller", smaller, None)
    assert vlm.layout.depth(case.stack) == 2
    inputs = {**case.inputs(2), **case.decoder_ids(2)}
    with skipping(case.vlm, plan):
        assert_close(forward(vlm, inputs).logits, forward(case.vlm, inputs).logits)
    assert "2 of 4" in (folder / "README.md").read_text()


def test_both_stacks_are_pruned_at_once(tmp_path):
    plan = SkipPlan.compose(AUDIO_BLOCK, SkipPlan("block", L, layers=(0, 1, 3)))
    folder = prune(WHISPER.vlm, plan, tmp_path / "smaller")
    smaller = VLM.of("smaller", type(WHISPER.vlm.model).from_pretrained(folder).eval(), None)
    assert {name: stack.n_layers for name, stack in smaller.layout.stacks.items()} == {
        "audio": 2,
        "decoder": 1,
    }
    inputs = {**WHISPER.inputs(2), **WHISPER.decoder_ids(2)}
    with skipping(WHISPER.vlm, plan):
        assert_close(forward(smaller, inputs).logits, forward(WHISPER.vlm, inputs).logits)


def test_features_taken_after_a_layer_that_is_left_out(tmp_path):
    case = StackCase("Qwen3-VL", "vision")
    with refused("features are taken after layer 0 of the vision encoder (deepstack_visual_indexe"):
        prune(case.vlm, SkipPlan("block", L, layers=(0,), stack="vision"), tmp_path / "a")
    plan = SkipPlan("block", L, layers=(2,), stack="vision")
    smaller = type(case.vlm.model).from_pretrained(prune(case.vlm, plan, tmp_path / "b")).eval()
    with skipping(case.vlm, plan):
        right = forward(case.vlm, case.inputs(2)).logits
    assert_close(forward(VLM.of("smaller", smaller, None), case.inputs(2)).logits, right)


@pytest.mark.parametrize("taken", [-2, 3, [-3, -2]])
def test_the_state_that_an_image_is_read_from_stays(taken, tmp_path):
    """LLaVA reads the output of a layer before the last one; its place moves."""
    vlm = tiny_llava()
    config = type(vlm.model.config).from_dict(vlm.model.config.to_dict())
    config.vision_config.num_hidden_layers = L
    config.vision_feature_layer = taken
    torch.manual_seed(0)
    case = VLM.of("deep", type(vlm.model)(config).float().eval(), None)
    plan = SkipPlan("block", L, layers=(0, 1), stack="vision")
    pixels = torch.randn(1, 3, 16, 16)
    inputs = {"input_ids": torch.tensor([[3, 3, 3, 3, 7, 8]]), "pixel_values": pixels}
    folder = prune(case, plan, tmp_path / "smaller")
    smaller = VLM.of("smaller", type(vlm.model).from_pretrained(folder).eval(), None)
    with skipping(case, plan):
        assert_close(forward(smaller, inputs).logits, forward(case, inputs).logits)
    with refused("keep one of the layers 3 to 3"):
        prune(case, SkipPlan("block", L, layers=(3,), stack="vision"), tmp_path / "none")


# The command line


def test_plans_of_an_encoder_on_the_command_line(folder, jsonl, tmp_path, capsys):
    data, words = ("--data", jsonl), "block layers=0 stack=vision"
    swept = tmp_path / "sweep"
    assert run("sweep", folder, *data, "--stack", "vision", "--out", swept) == 0
    rows = json.loads((swept / "sweep.json").read_text())
    plans = [SkipPlan.from_json(row["plan"]) for row in rows]
    assert plans == sweep_plans(2, modes=["block"], stack="vision")
    profiled = tmp_path / "profile.json"
    assert run("profile", folder, *data, "--stack", "vision", "--out", profiled) == 0
    assert json.loads(profiled.read_text())["groups"] == ["image"]
    compared = tmp_path / "comparison.json"
    short = ("--max-new-tokens", 2, "--out", compared)
    assert run("compare", folder, f"{words} + freeze layers=1", *data, *short) == 0
    assert json.loads(compared.read_text())["cost"]["prefill"]["flops_ratio"] < 1
    assert run("prune", folder, words, "--out", tmp_path / "smaller") == 0
    assert run("describe", folder) == 0
    said = capsys.readouterr().out
    described = " ".join(said.split())
    wanted = "vision encoder CLIPVisionModel, 2 layers of CLIPEncoderLayer, 16 wide: block"
    assert wanted in described
    assert run("cost", folder, "block layers=0 stack=audio", *data) == 2
    assert "has no stack 'audio'; it has vision, decoder" in capsys.readouterr().err
