"""A model with a plan in the lm-evaluation-harness: answers, choices, names and caches."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import lm_eval
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.caching import cache
from lm_eval.tasks import TaskManager
from transformers import LlamaConfig, LlamaForCausalLM

import vlm_bridge as vb
from tests.vlm_bridge.tiny import asked_pictures, tiny_llava
from vlm_bridge.data import limit_per_image, open_image, scenes
from vlm_bridge.errors import BridgeError
from vlm_bridge.harness.forced import forced_log_probs
from vlm_bridge.harness.lm_eval_model import lm_eval_model
from vlm_bridge.harness.lmms_rules import check_greedy, check_hash
from vlm_bridge.harness.planned_model import PlannedModel
from vlm_bridge.model.prompts import collate

ROOT = Path(__file__).parents[2]
PLAN = "block 1-2"
FREEZE = "freeze 4-6"  # of reference-smolvlm


# --- model and plan ------------------------------------------------------------------------------


def test_the_name_and_the_key_tell_plans_and_models_apart():
    vlm = tiny_llava()
    full, one, other = (PlannedModel.of(vlm, plan) for plan in (None, PLAN, "block 2"))
    elsewhere = PlannedModel.of(tiny_llava(seed=1), PLAN)
    assert len({c.key for c in (full, one, other, elsewhere)}) == 4
    assert one.key == PlannedModel.of(tiny_llava(), PLAN).key
    assert full.name == "tiny@full"
    assert one.name == f"tiny@{vb.read_plan(PLAN)(4).hash()[:12]}"
    assert one.about()["plan_hash"] == one.plan.hash()
    assert "layers 1-2" in one.about()["plan"]


def test_the_model_runs_its_plan_inside_its_block_alone(tmp_path):
    vlm = tiny_llava()
    items = asked_pictures(tmp_path, 2)
    inputs = collate(vlm, items, [0, 1]).inputs
    before = vlm.model(**inputs).logits
    with PlannedModel.of(vlm, PLAN).running():
        inside = vlm.model(**inputs).logits
    with vb.skipping(vlm, PLAN):
        assert torch.equal(inside, vlm.model(**inputs).logits)
    assert not torch.equal(inside, before)
    assert torch.equal(vlm.model(**inputs).logits, before)


def test_an_adaptive_plan_is_refused_by_name(tmp_path):
    vlm = tiny_llava()
    adaptive = vb.AdaptivePlan((vb.Gate(vb.read_plan(PLAN)(4), "margin", 0.5),))
    with pytest.raises(BridgeError, match="an AdaptivePlan decides answer by answer"):
        PlannedModel.of(vlm, adaptive)
    path = tmp_path / "adaptive.json"
    path.write_text(json.dumps(adaptive.to_json()))
    with pytest.raises(BridgeError, match="holds an adaptive plan"):
        PlannedModel.of(vlm, str(path))


@pytest.mark.parametrize(
    ("plan", "options", "says"),
    [
        ("block 9", {}, "layer"),
        ("leap 1", {}, "neither a plan file nor a plan in words"),
        (PLAN, {"dtyp": "float32"}, "did you mean dtype"),
        (PLAN, {"dtype": "float32"}, "the model is in memory"),
    ],
)
def test_bad_arguments_are_refused(plan, options, says):
    with pytest.raises(BridgeError, match=says):
        PlannedModel.of(tiny_llava(), plan, **options)


def test_something_that_is_no_model_is_refused():
    with pytest.raises(BridgeError, match="a model is wanted, got 7"):
        PlannedModel.of(7)


def test_a_plan_file_wants_the_hash_of_its_plan():
    one = PlannedModel.of(tiny_llava(), PLAN)
    check_hash(one, PLAN, None)
    check_hash(one, "plan.json", one.plan_hash[:12])
    check_hash(PlannedModel.of(tiny_llava()), None, None)
    with pytest.raises(BridgeError, match=f"add plan_hash={one.plan_hash[:12]}"):
        check_hash(one, "plan.json", None)
    other = PlannedModel.of(tiny_llava(), "block 2").plan_hash
    for wrong in (other, one.plan_hash[:11], ""):
        with pytest.raises(BridgeError, match="is not that of this plan"):
            check_hash(one, "plan.json", wrong)


@pytest.mark.parametrize("option", [{"do_sample": True}, {"temperature": 1}, {"num_beams": 4}])
def test_tasks_that_do_not_answer_greedily_are_refused(option):
    check_greedy("mme", {"do_sample": False, "temperature": 0.0, "num_beams": 1, "top_p": 1.0})
    with pytest.raises(BridgeError, match=f"mme asks for {next(iter(option))}="):
        check_greedy("mme", option)


# --- log-probabilities of continuations ---------------------------------------------------------


@torch.no_grad()
def direct(vlm, item, tokens):
    """Log-probability of tokens behind a prompt, from one pass over both."""
    inputs = dict(collate(vlm, [item], [0]).inputs)
    more = torch.tensor([tokens])
    length = inputs["input_ids"].shape[1]
    inputs["input_ids"] = torch.cat([inputs["input_ids"], more], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    log_probs = vlm.model(**inputs).logits.float().log_softmax(-1)[0, length - 1 : -1]
    greedy = log_probs.argmax(-1).tolist() == list(tokens)
    return sum(float(log_probs[i, t]) for i, t in enumerate(tokens)), greedy


@pytest.mark.parametrize("plan", [None, PLAN, "freeze 0-2", "early_exit 2"])
def test_forced_continuations_have_the_probability_of_one_pass_over_all(pictures, plan):
    """Of lengths 1 to 3 in one padded batch, and among them the greedy answer."""
    vlm = tiny_llava()
    asked = pictures[:3]
    with PlannedModel.of(vlm, plan).running():
        inputs = collate(vlm, asked, [0, 1, 2]).inputs
        greedy = vlm.model.generate(**inputs, max_new_tokens=2, min_new_tokens=2, do_sample=False)
        told = [[5], greedy[1, -2:].tolist(), [7, 9, 4]]
        found = forced_log_probs(vlm.model, inputs, told)
        for (total, best), item, tokens in zip(found, asked, told, strict=True):
            expected, is_best = direct(vlm, item, tokens)
            assert total == pytest.approx(expected, abs=2e-4)
            assert best == is_best
    assert found[1][1]


def test_the_probabilities_of_all_one_token_continuations_sum_to_one(pictures):
    vlm = tiny_llava()
    n = vlm.model.config.text_config.vocab_size
    inputs = collate(vlm, pictures[:1] * n, range(n)).inputs
    found = forced_log_probs(vlm.model, inputs, [[token] for token in range(n)])
    assert torch.tensor([total for total, _ in found]).exp().sum() == pytest.approx(1, abs=1e-4)
    assert sum(best for _, best in found) == 1


def test_a_continuation_behind_an_end_of_text_is_refused(pictures):
    vlm = tiny_llava()
    inputs = collate(vlm, pictures[:1], [0]).inputs
    with pytest.raises(BridgeError, match="goes on behind an end of text"):
        forced_log_probs(vlm.model, inputs, [[1, 5]])


# --- the harness itself -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def harness():
    """lm_eval without its thousands of tasks, and our tasks of examples/lm_eval."""
    folder = str(ROOT / "examples" / "lm_eval")
    tasks = TaskManager(include_path=folder, include_defaults=False)

    def run(pretrained, plan, *names, n=12, **options):
        lm = lm_eval_model(pretrained, plan, batch_size=5)
        done = lm_eval.simple_evaluate(
            model=lm,
            tasks=list(names),
            task_manager=tasks,
            limit=n,
            apply_chat_template=True,
            bootstrap_iters=0,
            **options,
        )
        assert done is not None
        return done

    return run


@pytest.fixture(scope="module")
def reference():
    return vb.load("reference-smolvlm")


@pytest.fixture(scope="module")
def asked():
    return limit_per_image(scenes("test"), 1)[:12]


def said(done):
    samples = sorted(done["samples"]["scenes"], key=lambda sample: sample["doc_id"])
    return [sample["resps"][0][0].strip() for sample in samples]


@pytest.mark.slow
@pytest.mark.parametrize("plan", [None, FREEZE, "block 5", "early_exit 3"])
def test_answers_and_scores_are_those_of_our_verbs(harness, reference, asked, plan):
    done = harness(reference, plan, "scenes")
    with PlannedModel.of(reference, plan).running():
        ours = vb.answer(reference, asked, max_new_tokens=8)
    assert said(done) == ours
    score = done["results"]["scenes"]["exact_match,none"]
    same = [text == item.answer for text, item in zip(ours, asked, strict=True)]
    assert score == pytest.approx(sum(same) / len(same))
    if plan is not None:
        found = vb.compare(reference, asked, plan, max_new_tokens=8)
        assert found.accuracy_skipped.value == pytest.approx(score)


@pytest.mark.slow
@pytest.mark.parametrize("plan", [None, FREEZE])
def test_choices_have_the_probability_of_a_direct_pass_under_the_plan(
    harness, reference, asked, plan
):
    done = harness(reference, plan, "scenes_choice", n=4)
    samples = sorted(done["samples"]["scenes_choice"], key=lambda sample: sample["doc_id"])
    with PlannedModel.of(reference, plan).running():
        for sample, item in zip(samples, asked, strict=False):
            for choice, (resp,) in zip(sample["doc"]["choices"], sample["resps"], strict=True):
                tokens = reference.tokenizer.encode(f" {choice}", add_special_tokens=False)
                expected, greedy = direct(reference, item, tokens)
                total, best = resp
                assert float(total) == pytest.approx(expected, abs=1e-3)
                assert str(best) == str(greedy)


@pytest.mark.slow
def test_two_plans_share_a_cache_file_and_no_answer(harness, reference, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "PATH", str(tmp_path / "requests"))
    options = {"use_cache": str(tmp_path / "answers"), "cache_requests": True}
    damaging = "block 1,2,3,4,5"
    alone = [said(harness(reference, plan, "scenes")) for plan in (None, damaging)]
    assert alone[0] != alone[1], "the plan must change answers for this test to mean anything"
    for _ in range(2):  # the second time from the cache
        for plan, expected in zip((None, damaging), alone, strict=True):
            assert said(harness(reference, plan, "scenes", **options)) == expected
    assert any((tmp_path / "requests").iterdir())


@pytest.mark.slow
def test_the_cache_is_used(harness, reference, tmp_path, monkeypatch):
    """The second run answers although the model no longer can."""
    options = {"use_cache": str(tmp_path / "answers")}
    first = said(harness(reference, FREEZE, "scenes", n=3, **options))

    def broken(*_, **__):
        raise AssertionError("the model was asked")

    monkeypatch.setattr(reference.model, "generate", broken)
    assert said(harness(reference, FREEZE, "scenes", n=3, **options)) == first
    with pytest.raises(AssertionError, match="the model was asked"):
        harness(reference, None, "scenes", n=3, **options)


@pytest.mark.slow
def test_the_plan_stands_in_the_record_of_the_run(harness, reference):
    done = harness(reference, FREEZE, "scenes", n=2)
    plan = vb.read_plan(FREEZE)(reference.layout.depth)
    assert done["config"]["plan_hash"] == plan.hash()
    assert done["config"]["model"] == f"skipit:reference-smolvlm@{plan.hash()[:12]}"
    assert done["config"]["model_fingerprint"] == reference.fingerprint
    full = harness(reference, None, "scenes", n=2)
    assert full["config"]["model"] == "skipit:reference-smolvlm@full"


@pytest.mark.slow
def test_text_requests_are_answered_under_the_plan_too(reference):
    """Of a vision-language model and of a text-only one: log-likelihoods by one pass."""
    text_only = tiny_text()
    for vlm, plan in ((reference, "block 3"), (text_only, "block 1")):
        told = [("is there a red circle", " yes"), ("what", " no")]
        requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(told)]
        found = lm_eval_model(vlm, plan).loglikelihood(requests, disable_tqdm=True)
        full = lm_eval_model(vlm).loglikelihood(requests, disable_tqdm=True)
        for (context, continuation), (total, _), (of_full, _) in zip(
            told, found, full, strict=True
        ):
            before = vlm.tokenizer.encode(context)
            ids = torch.tensor([vlm.tokenizer.encode(context + continuation)])
            with vb.skipping(vlm, plan):
                logits = vlm.model(input_ids=ids).logits.float().log_softmax(-1)
            places = range(len(before), ids.shape[1])
            expected = sum(float(logits[0, i - 1, ids[0, i]].detach()) for i in places)
            assert total == pytest.approx(expected, abs=1e-3)
            assert abs(total - of_full) > 1e-3


def tiny_text():
    """A text-only model with the words of the tiny tokenizer."""
    vlm = tiny_llava()
    config = LlamaConfig(**vlm.model.config.text_config.to_dict())
    torch.manual_seed(0)
    return vb.wrap(LlamaForCausalLM(config).eval(), vlm.tokenizer, name="text")


@pytest.mark.slow
def test_what_the_harness_cannot_run_is_refused(reference):
    entry = get_model("skipit")
    with pytest.raises(BridgeError, match="lacks pretrained=NAME"):
        entry.create_from_arg_string("plan=block 1")
    with pytest.raises(BridgeError, match="did you mean plan"):
        entry.create_from_arg_obj({"pretrained": reference, "plans": "block 1"})
    with pytest.raises(BridgeError, match="batch_size of at least 1, got 'auto'"):
        lm_eval_model(reference, batch_size="auto")
    deaf = dataclasses.replace(
        reference, layout=dataclasses.replace(reference.layout, encoder_decoder=True)
    )
    with pytest.raises(BridgeError, match="is an encoder-decoder"):
        lm_eval_model(deaf)


@pytest.mark.slow
def test_a_prompt_that_would_be_cut_is_refused(reference, asked):
    lm = lm_eval_model(reference)
    with pytest.raises(BridgeError, match="has room for 5 before the answer"):
        lm.tok_batch_multimodal_encode(
            ["<image> what ?"], [[open_image(asked[0].image)]], left_truncate_len=5
        )


@pytest.mark.slow
def test_the_command_line_writes_the_plan_into_its_results(tmp_path):
    plan = vb.read_plan("freeze 4,6")(8)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "vlm_bridge.harness", "run", "--model", "skipit"),
            *("--model_args", "pretrained=reference-smolvlm", "plan='freeze 4,6'"),
            *("--include_path", str(ROOT / "examples" / "lm_eval"), "--tasks", "scenes"),
            *("--apply_chat_template", "--limit", "2", "--batch_size", "2"),
            *("--output_path", str(tmp_path)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (written,) = tmp_path.rglob("results_*.json")
    assert json.loads(written.read_text())["config"]["plan_hash"] == plan.hash()
    refused = subprocess.run(
        [
            *(sys.executable, "-m", "vlm_bridge.harness", "run", "--model", "skipit"),
            *("--model_args", "pretrained=reference-smolvlm", "plan=block 99"),
            *("--include_path", str(ROOT / "examples" / "lm_eval"), "--tasks", "scenes"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert refused.returncode == 2
    assert "layer 99" in refused.stderr.splitlines()[-1]
