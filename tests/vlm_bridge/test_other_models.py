"""From profile to certificate with a text-only model, and with models that hear."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import vlm_bridge as vb
from tests.vlm_bridge.command_line import run
from tests.vlm_bridge.families.hearing_processors import (
    RATE,
    films,
    sounds,
    texts,
    tokenizer,
    with_processor,
)
from tests.vlm_bridge.tiny import tiny_llava
from vlm_bridge.data import Item, image_ids
from vlm_bridge.data.audio import read_audio
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.sweep import sweep_plans
from vlm_bridge.model.prompts import batches, collate
from vlm_bridge.model.vlm import load
from vlm_bridge.plan.modes import MODES
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules import RULES, Evidence, find_rule, nested_plans, score_units
from vlm_bridge.selection import modality_share
from vlm_bridge.skip import skipping
from vlm_bridge.skip.describe import describe

L = 4
BLOCK = SkipPlan("block", L, layers=(1,))
FREEZE = SkipPlan("freeze", L, layers=(3,))


def refused(message):
    return pytest.raises(BridgeError, match=re.escape(message))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny Llama as `save_pretrained` leaves it, with a tokenizer in place of a processor."""
    path = tmp_path_factory.mktemp("llama")
    vlm = with_processor("Llama")
    vlm.model.save_pretrained(path)
    vlm.processor.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def llama(folder):
    return load(folder)


# Prompts


def test_a_text_only_model_is_loaded_with_its_tokenizer(llama, folder):
    assert llama.processor is llama.tokenizer
    assert llama.layout.modality_ids == ()
    found = describe(llama)
    assert found.vision_tokens is None
    assert [mode for mode, why in found.modes.items() if not why] == ["block", "sublayer"]
    assert "has no" not in str(vb.describe(load(folder))).split("block")[0]


@pytest.mark.parametrize("template", [None, "{{ messages[0]['content'] }} what {{ bos_token }}"])
@pytest.mark.parametrize("pad", [True, False])
def test_prompts_of_a_tokenizer(template, pad):
    """Left padding; what stands there does not change the answers, nor the tokenizer."""
    own = tokenizer(pad=pad)
    own.chat_template = template
    vlm = replace(with_processor("Llama"), processor=own)
    before = vlm.fingerprint
    items = [Item(None, "is there"), Item(None, "what is the red circle ?")]
    both = collate(vlm, items, [0, 1]).inputs
    ids, mask = both["input_ids"], both["attention_mask"]
    more = ["what"] if template else []
    words = ["is", "there", *more]
    assert own.convert_ids_to_tokens(ids[0][mask[0] == 1].tolist()) == words
    assert ids[0][mask[0] == 0].unique().tolist() == [0 if pad else 1]
    assert mask[0].tolist() == sorted(mask[0].tolist())
    alone = collate(vlm, items, [0]).inputs
    with torch.no_grad():
        said = [vlm.model(**inputs).logits[0, -1] for inputs in (both, alone)]
    torch.testing.assert_close(*said, atol=1e-4, rtol=1e-4)
    assert own.pad_token == ("<pad>" if pad else None)
    assert vlm.fingerprint == before


def test_sounds_reach_the_model(tmp_path):
    vlm = with_processor("Qwen2-Audio")
    items = sounds(tmp_path, 3)
    (batch,) = batches(vlm, items)
    assert (batch.inputs["input_ids"] == 5).sum(1).tolist() == [4, 4, 4]
    heard = vlm.processor.feature_extractor(
        read_audio(items[1].audio, RATE), sampling_rate=RATE, return_tensors="pt"
    )["input_features"]
    torch.testing.assert_close(batch.inputs["input_features"][1:2], heard)
    assert batch.names[1] == f"1.wav: {items[1].question}"
    with torch.no_grad():
        one, other, _ = vlm.model(**batch.inputs).logits[:, -1]
    assert (one - other).abs().max() > 1e-2
    (blind,) = batches(vlm, items, with_images=False)
    assert set(blind.inputs) == {"input_ids", "attention_mask"}


def test_images_and_sounds_together(tmp_path):
    vlm = with_processor("Qwen2.5-Omni")
    (batch,) = batches(vlm, films(tmp_path, 2))
    groups = vlm.layout.token_groups(batch.inputs["input_ids"], batch.inputs["attention_mask"])
    assert [(groups == code).sum(1).tolist() for code in (1, 3)] == [[4, 4], [4, 4]]
    assert modality_share(vlm, batch.items) == 8 / batch.inputs["input_ids"].shape[1]
    assert vb.answer(vlm, batch.items, max_new_tokens=2) != []


def test_a_model_is_asked_what_it_can_take(tmp_path, llama):
    heard, seen = sounds(tmp_path, 1), films(tmp_path, 1)
    deaf = tiny_llava()
    with refused("LlavaForConditionalGeneration with LlavaProcessor takes no recordings, and the "):
        vb.profile(deaf, heard)
    with refused("takes no recordings, and the question"):
        vb.answer(llama, heard)
    with refused("Qwen2AudioForConditionalGeneration with Qwen2AudioProcessor takes no images"):
        vb.compare(with_processor("Qwen2-Audio"), [*seen, *texts(2)], BLOCK)
    for item in (heard[0], replace(heard[0], audio=None, image=heard[0].audio)):
        with refused("takes no "):
            vb.compare(llama, [item, *texts(2)], BLOCK)
    assert len(vb.answer(deaf, texts(2), max_new_tokens=1)) == 2  # text alone


def test_a_sound_that_would_be_cut_is_refused(tmp_path):
    from scipy.io import wavfile

    wavfile.write(tmp_path / "long.wav", RATE, np.zeros(2 * RATE, dtype=np.int16))
    with refused("lasts 2 s, and the model's feature extractor reads 1 s; cut it into several"):
        vb.answer(with_processor("Qwen2-Audio"), [Item(None, "?", audio=tmp_path / "long.wav")])


# The way from profile to certificate


def test_every_rule_scores_a_text_only_model_or_is_refused_by_name(llama):
    evidence = Evidence(llama, texts(24))
    for rule in RULES.values():
        for mode in rule.modes:
            if MODES[mode].every_token:
                assert np.isfinite(score_units(rule, evidence, mode)).all()
                continue
            spent = dict(evidence.cost)
            says = (
                f"has no use for mode {mode}: its decoder reads no image, video or audio tokens: "
                f"'{mode}' "
            )
            for verb in (score_units, nested_plans):
                with refused(says):
                    verb(rule, evidence, mode)
            assert evidence.cost == spent  # nothing was computed
    profile = vb.profile(llama, texts(4))
    assert profile.groups == ("text",)
    with refused("rule 'skip-it' skips image, video or audio tokens (freeze), and this model has"):
        score_units(find_rule("skip-it"), Evidence(profile=profile))


@pytest.mark.slow
def test_every_rule_scores_a_model_that_hears(tmp_path):
    evidence = Evidence(with_processor("Qwen2-Audio"), sounds(tmp_path, 24))
    for rule in RULES.values():
        for mode in rule.modes:
            assert np.isfinite(score_units(rule, evidence, mode)).all()
    assert evidence.modality_groups == ("audio",)
    profile = evidence.profile
    assert set(profile.groups) >= {"text", "audio"}
    assert profile.values("text", "var").max() > 0.01


def test_skip_it_reads_all_modality_tokens(tmp_path):
    """Its change is the mean over the tokens of image and sound, as many of each here."""
    evidence = Evidence(with_processor("Qwen2.5-Omni"), films(tmp_path, 4))
    profile, at = evidence.profile, evidence.profile.tail_grid.index(0.1)
    both = [profile.values(group, "cosine_distance") for group in ("image", "audio")]
    tails = [[t[at].value for t in profile.tails[group]] for group in ("image", "audio")]
    var = profile.values("text", "var")
    later = np.append(np.cumsum(var[::-1])[::-1][1:], 0.0)
    expected = (np.sqrt(2 * np.mean(both, axis=0)) + 2 * np.mean(tails, axis=0)) * later
    found = score_units(find_rule("skip-it"), evidence, "freeze")
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def questions(name, folder, count):
    return texts(count) if name == "Llama" else sounds(folder, count)


@pytest.mark.parametrize(
    ("name", "rule", "mode"),
    [("Llama", "shortgpt", "block"), ("Qwen2-Audio", "skip-it", "freeze")],
)
def test_the_whole_way(name, rule, mode, tmp_path):
    vlm = with_processor(name)
    items = questions(name, tmp_path, 36)
    tuning, certification = items[:12], items[12:]
    evidence = Evidence(vlm, tuning)
    plans = nested_plans(find_rule(rule), evidence, mode)
    assert plans[0].provenance.profiled == image_ids(tuning)
    ledger = tmp_path / "ledger.jsonl"
    found = vb.search(
        *(vlm, tuning, certification, plans), epsilon=0.9, max_new_tokens=2, ledger=ledger
    )
    spent = {one for line in ledger.read_text().splitlines() for one in _images(line)}
    assert spent == (set(image_ids(certification)) if found.path else set())
    assert found.plan.provenance.tuned == image_ids(tuning)
    plan = plans[0]
    with refused(f"of these {'texts' if name == 'Llama' else 'recordings'} ranked the layers of"):
        vb.certify(vlm, tuning, plan)
    certificate = vb.certify(vlm, certification, plan, epsilon=0.9, max_new_tokens=2)
    assert certificate.n_images == 24
    compared = vb.compare(vlm, certification, plan, max_new_tokens=2)
    assert compared.disagreement.value == pytest.approx(certificate.estimate)
    swept = vb.sweep(vlm, tuning, sweep_plans(L, modes=[mode], step=3))
    assert [one.n_images for one in swept] == [12, 12]
    cost = vb.measure_cost(vlm, tuning[:4], plan, pairs=1)
    assert 0 < cost.prefill.flops_ratio < 1


def _images(line):
    return json.loads(line).get("images", ())


def test_a_pruned_text_only_model_is_what_skipping_is(llama, tmp_path):
    small = load(vb.prune(llama, BLOCK, tmp_path / "small"))
    (batch,) = batches(llama, texts(4))
    with torch.no_grad(), skipping(llama, BLOCK):
        right = llama.model(**batch.inputs).logits
    with torch.no_grad():
        torch.testing.assert_close(small.model(**batch.inputs).logits, right)


def test_the_command_line(folder, tmp_path, capsys):
    data = {name: tmp_path / f"{name}.jsonl" for name in ("tuning", "certification")}
    items = texts(40)
    for path, part in zip(data.values(), (items[:10], items[10:]), strict=True):
        rows = [json.dumps({"question": item.question, "answer": item.answer}) for item in part]
        path.write_text("\n".join(rows))
    tuning, certification = data.values()
    out = tmp_path / "profile.json"
    assert run("profile", folder, "--data", tuning, "--out", out) == 0
    assert out.with_suffix(".png").is_file()
    search = ("search", folder, "--data", tuning, "--certification", certification)
    more = ("--max-new-tokens", 2, "--out", tmp_path / "search")
    assert run(*search, "--rule", "shortgpt", "--epsilon", 0.9, *more) == 0
    assert run(*search, *more) == 2
    assert "skips image, video or audio tokens (freeze), and this" in capsys.readouterr().err
    words = ("block layers=1", "--data", certification, "--epsilon", 0.9, "--max-new-tokens", 2)
    assert (
        run("certify", folder, *words, "--no-ledger", "--out", tmp_path / "certificates.json") == 0
    )
    assert run("sweep", folder, "--data", tuning, "--out", tmp_path / "sweep") == 0
    swept = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert {one["plan"]["mode"] for one in swept} == {"block"}
    assert run("describe", folder) == 0
    assert run("cost", folder, "block layers=1", "--out", tmp_path / "cost.json") == 2
    assert "sees no images, so noise images cannot be timed" in capsys.readouterr().err
    words = ("block layers=1", "--data", tuning, "--pairs", 1, "--tokens", 0)
    assert run("cost", folder, *words, "--out", tmp_path / "cost.json") == 0


def test_the_command_line_speaks_of_audio_tokens(tmp_path, capsys, monkeypatch):
    vlm = with_processor("Qwen2-Audio")
    path = tmp_path / "model"
    vlm.model.save_pretrained(path)
    vlm.processor.save_pretrained(path)
    rows = [{"audio": item.audio.name, "question": item.question} for item in sounds(tmp_path, 4)]
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    words = ("freeze layers=1", "--data", data, "--max-new-tokens", 2)
    assert run("compare", path, *words, "--out", tmp_path / "compared.json") == 0
    assert "freeze audio tokens in layer 1 (1 of 4): answers" in capsys.readouterr().out
