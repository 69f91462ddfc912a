"""Rules on stacks: encoders, decoders with cross-attention, and text-only models."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from tests.vlm_bridge.command_line import run
from tests.vlm_bridge.families.stacks import L, StackCase, model
from tests.vlm_bridge.tiny import tiny_llava
from tests.vlm_bridge.words import Hearing
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.prompts import batches
from vlm_bridge.model.run_batches import first_logits
from vlm_bridge.model.vlm import VLM
from vlm_bridge.observe.profile import profile
from vlm_bridge.plan.modes import RULE_MODES
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import units
from vlm_bridge.rules import RULES, Evidence, find_rule, nested_plans, score_units
from vlm_bridge.rules.measure.sublayers import sublayer_geometry
from vlm_bridge.rules.protocol import FOR_TEXTS
from vlm_bridge.selection import greedy_plans
from vlm_bridge.selection.choose import choose_plan
from vlm_bridge.skip import skipping

ANY = [name for name, rule in RULES.items() if rule.stacks == "any"]
ENCODER_MODES = ("block", "sublayer")
#: Rules that a decoder with cross-attention has no states for.
REFUSED = (
    *("skip-it-slopes", "skip-it-runs", "arank", "relative-error", "interchange"),
    *("shannon-invariants", "adaskip"),
)


def refused(message):
    return pytest.raises(BridgeError, match=re.escape(message))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder, draw, items = tmp_path_factory.mktemp("heard"), np.random.default_rng(0), []
    for number in range(5):
        path = folder / f"{number}.wav"
        samples = draw.normal(size=9000 + 1500 * number).astype(np.float32) / 10
        wavfile.write(path, 16_000, samples)
        items.append(Item(None, "what is said?", "7 7", audio=path))
    return items


@pytest.fixture(scope="module")
def whisper():
    vlm = VLM.of("Whisper", model("Whisper"), None)
    return replace(vlm, processor=Hearing())


CASES = [(name, mode) for name in ANY for mode in RULES[name].modes if mode in ENCODER_MODES]


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_rules_of_any_stack_rank_an_encoder(name, mode, whisper, recordings):
    evidence = Evidence(whisper, recordings, stack="audio")
    scores = score_units(find_rule(name), evidence, mode)
    assert scores.shape == (len(units(mode, L, stack="audio")),)
    plans = nested_plans(find_rule(name), evidence, mode)
    assert {plan.stack for plan in plans} == {"audio"}
    with skipping(whisper, plans[0]):
        pass


def test_what_no_rule_of_any_stack_may_forget():
    """The rules that the errors name, and every control, are among them."""
    assert {word for word in FOR_TEXTS.split() if word in RULES} <= set(ANY)
    assert {name for name, rule in RULES.items() if rule.origin == "control"} <= set(ANY)


@pytest.mark.parametrize("name", [name for name in RULES if name not in ANY])
def test_other_rules_refuse_an_encoder(name, whisper, recordings):
    evidence = Evidence(whisper, recordings, stack="audio")
    for ask in (score_units, nested_plans):
        with refused(f"rule '{name}' ranks layers of the decoder only; for the audio encoder take"):
            ask(find_rule(name), evidence)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_on_a_decoder_with_cross_attention(name, whisper, recordings):
    """It scores every mode that the decoder has, or says why not."""
    evidence = Evidence(whisper, recordings)
    for mode in RULES[name].modes:
        said = ""
        try:
            scores = score_units(RULES[name], evidence, mode)
            assert len(scores) == len(evidence.units(mode))
        except BridgeError as error:
            said = str(error)
        assert bool(said) == (mode not in ENCODER_MODES or name in REFUSED), said


def test_distances_of_an_encoder_are_those_of_its_profile(whisper, recordings):
    measured = profile(whisper, recordings, stack="audio")
    scores = score_units(find_rule("shortgpt"), Evidence(whisper, recordings, stack="audio"))
    assert scores == pytest.approx(measured.values("audio", "cosine_distance"))
    given = Evidence(whisper, recordings, measured, stack="audio")
    assert score_units(find_rule("shortgpt"), given).tolist() == scores.tolist()
    with refused("is of the audio encoder of Whisper, and layers of the decoder are to be ranked"):
        Evidence(whisper, recordings, measured)
    with refused("is of the decoder of Whisper, and layers of the audio encoder are to be ranked"):
        Evidence(whisper, recordings, profile(whisper, recordings), stack="audio")


def test_similarity_of_sublayers_of_an_encoder(whisper, recordings):
    """By hand, from the norms of the tiny Whisper."""
    seen = []
    layers = whisper.layout.stack("audio").layers
    hooks = [
        norm.register_forward_pre_hook(lambda _, args: seen.append(args[0].double()))
        for layer in layers
        for norm in (layer.self_attn_layer_norm, layer.final_layer_norm)
    ]
    hooks.append(layers[-1].register_forward_hook(lambda *a: seen.append(a[-1].double())))
    with torch.no_grad():
        for batch in batches(whisper, recordings, batch_size=5):
            first_logits(whisper, batch)
    for hook in hooks:
        hook.remove()
    pairs = itertools.pairwise(seen[-2 * L - 1 :])  # the first answer token takes a second pass
    right = [float(torch.cosine_similarity(a, b, dim=-1).mean()) for a, b in pairs]
    found = sublayer_geometry(whisper, recordings, batch_size=2, stack="audio")
    assert found.similarity == pytest.approx(right, abs=1e-6)
    assert found.vision_change.min() > 0


def test_greedy_growth_in_an_encoder_takes_the_least_kl(whisper, recordings):
    evidence = Evidence(whisper, recordings, stack="audio")
    grown = greedy_plans(find_rule("deepest-first"), evidence, width=L, most=2)
    kl = evidence.candidate_kl("block")
    assert grown[0].layers == (int(np.argmin(kl)),)
    assert len(grown[1].layers) == 2
    runs = [evidence.cost[name] for name in evidence.cost if name.startswith("candidate")]
    assert set(runs) == {1.0}  # every run of an encoder starts at the input


def test_a_plan_is_chosen_for_an_encoder(whisper, recordings):
    evidence = Evidence(whisper, recordings, stack="audio")
    chosen = choose_plan(
        whisper,
        None,
        recordings,
        rule="shortgpt",
        epsilon=0.99,
        max_new_tokens=2,
        evidence=evidence,
    )
    assert (chosen.stack, chosen.mode, chosen.n_layers) == ("audio", "block", L)


def test_modes_of_the_decoder_are_refused_in_an_encoder(whisper, recordings):
    evidence = Evidence(whisper, recordings, stack="audio")
    for mode in set(RULE_MODES) - set(ENCODER_MODES):
        with refused(f"mode {mode} is one of the decoder; the audio encoder has block, sublayer"):
            score_units(find_rule("random"), evidence, mode)


@pytest.mark.parametrize("stack", ["audio", "decoder"])
def test_the_default_mode_is_one_that_the_stack_has(stack, whisper, recordings):
    """Neither Whisper's encoder nor its decoder holds modality tokens beside text."""
    evidence = Evidence(whisper, recordings, stack=stack)
    assert nested_plans(find_rule("random"), evidence)[0].mode == "block"
    wanted = "skips image, video or audio tokens (freeze), and this model has none"
    with refused(wanted if stack == "decoder" else "ranks layers of the decoder only"):
        score_units(find_rule("skip-it"), evidence)


def test_plan_and_search_of_an_encoder_on_the_command_line(folder, jsonl, tmp_path, capsys):
    data, stack = ("--data", jsonl), ("--stack", "vision")
    profiled, out = tmp_path / "profile.json", tmp_path / "plan.json"
    assert run("profile", folder, *data, *stack, "--no-null", "--out", profiled) == 0
    rule = ("--rule", "shortgpt", "--epsilon", "0.9", "--max-new-tokens", 2)
    assert run("plan", folder, *data, *stack, *rule, "--profile", profiled, "--out", out) == 0
    assert SkipPlan.read(out).stack == "vision"
    assert "that of the profile included" in capsys.readouterr().out
    assert run("plan", folder, *data, *stack, "--profile", profiled, "--out", out) == 2
    assert "ranks layers of the decoder only" in capsys.readouterr().err
    assert run("plan", folder, *data, *rule, "--profile", profiled, "--out", out) == 2
    assert "name that stack with --stack" in capsys.readouterr().err
    assert run("plan", folder, *data, "--stack", "ears", "--out", out) == 2
    assert "unknown stack 'ears'" in capsys.readouterr().err
    lines = jsonl.read_text().splitlines()
    first = json.loads(lines[0])["image"]
    halves = {True: tmp_path / "one.jsonl", False: tmp_path / "rest.jsonl"}
    for same, path in halves.items():
        kept = [line for line in lines if (json.loads(line)["image"] == first) is same]
        path.write_text("\n".join(kept) + "\n")
    split = ("--data", halves[True], "--certification", halves[False], "--images", jsonl.parent)
    found = (*stack, *rule, "--out", tmp_path / "search", "--no-ledger")
    assert run("search", folder, *split, *found) == 0
    assert run("search", folder, *split, *found, "--how", "bands") == 2
    assert "--how bands searches layers of the decoder" in capsys.readouterr().err


def test_a_search_that_tests_nothing_says_why(folder, jsonl, tmp_path, capsys, monkeypatch):
    import vlm_bridge.cli.searching as searching
    from vlm_bridge.selection import CertifiedPlan

    nothing = CertifiedPlan(SkipPlan("block", 4), None, (), ())
    monkeypatch.setattr(searching, "run_search", lambda *_, **__: nothing)
    monkeypatch.setattr(searching, "check_splits", lambda *_: None)
    arguments = ("--data", jsonl, "--certification", jsonl, "--rule", "random", "--no-ledger")
    assert run("search", folder, *arguments, "--out", tmp_path) == 0
    assert "no plan was tested: each of 4 candidates changed more than" in capsys.readouterr().out


def test_evidence_of_a_stack_that_the_model_has_not(items):
    with refused("has no stack 'audio'; it has vision, decoder"):
        Evidence(tiny_llava(), items, stack="audio")


def test_a_part_of_the_evidence_is_about_the_same_stack(whisper, recordings):
    evidence = Evidence(whisper, recordings, stack="audio")
    part = evidence.part(evidence.clusters[:2])
    assert (part.stack, part.n_layers, len(part.items)) == ("audio", L, 2)


def test_the_text_encoder_of_an_encoder_decoder_is_ranked():
    case = StackCase("mBART", "encoder")
    evidence = Evidence(case.vlm, (), stack="encoder")
    assert score_units(find_rule("deepest-first"), evidence, "block").tolist() == [0, -1, -2, -3]
