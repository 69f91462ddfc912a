"""Plans, profiles, checkpoints and certificates belong to one model; images are spent once."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from estimators import Profile
from tests.vlm_bridge.command_line import run
from tests.vlm_bridge.tiny import picture, tiny_llava
from theory import Certificate
from theory.systems import toy_vlm
from vlm_bridge.cost import measure_cost
from vlm_bridge.data import Item, image_hashes, image_ids, read_jsonl
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.certify import certify, certify_both
from vlm_bridge.evaluate.compare import compare
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.evaluate.sweep import sweep
from vlm_bridge.experiments.rule_benchmark import Splits
from vlm_bridge.methods import find_method
from vlm_bridge.methods.run import run_method
from vlm_bridge.model.toy import toy_items, toy_llava
from vlm_bridge.observe.profile import profile
from vlm_bridge.observe.reservoir import Reservoir, Samples
from vlm_bridge.plan.provenance import Provenance
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.units import union
from vlm_bridge.rules import Evidence, find_rule, nested_plans
from vlm_bridge.runtime.checkpoint import difference
from vlm_bridge.selection import bands, greedy_plans, search, tuned_path
from vlm_bridge.selection.choose import choose_plan
from vlm_bridge.skip import skipping
from vlm_bridge.skip.export import prune

SHORT = {"max_new_tokens": 2}


@pytest.fixture(scope="module")
def own():
    return tiny_llava()


@pytest.fixture(scope="module")
def other():
    """A model of the same name and depth with other weights."""
    return tiny_llava(seed=1)


def plan_of(vlm) -> SkipPlan:
    made_for = Provenance(model=vlm.name, fingerprint=vlm.fingerprint)
    return SkipPlan("freeze", 4, layers=(3,), provenance=made_for)


def both(own, other):
    return rf"made for tiny \({own.fingerprint[:12]}\), this is tiny \({other.fingerprint[:12]}\)"


USES = {
    "skipping": lambda vlm, items, plan, folder: skipping(vlm, plan).__enter__(),
    "certify": lambda vlm, items, plan, folder: certify(vlm, items, plan, **SHORT),
    "certify both": lambda vlm, items, plan, folder: certify_both(vlm, items, plan, **SHORT),
    "compare": lambda vlm, items, plan, folder: compare(vlm, items, plan, **SHORT),
    "sweep": lambda vlm, items, plan, folder: sweep(vlm, items, [plan]),
    "cost": lambda vlm, items, plan, folder: measure_cost(vlm, items, plan, pairs=1),
    "prune": lambda vlm, items, plan, folder: prune(
        vlm, SkipPlan("block", 4, layers=(1,), provenance=plan.provenance), folder / "pruned"
    ),
    "search": lambda vlm, items, plan, folder: search(vlm, items[:1], items[1:], [plan], **SHORT),
    "tuned_path": lambda vlm, items, plan, folder: tuned_path(
        vlm, items, [plan], epsilon=0.5, **SHORT
    ),
    "composed": lambda vlm, items, plan, folder: certify(
        vlm, items, SkipPlan.compose(plan, SkipPlan("block", 4, layers=(1,))), **SHORT
    ),
}


@pytest.mark.parametrize("use", USES)
def test_a_plan_of_another_model_is_refused(use, own, other, items, tmp_path):
    with pytest.raises(BridgeError, match=both(own, other)):
        USES[use](other, items, plan_of(own), tmp_path)


@pytest.mark.parametrize("use", ["skipping", "certify"])
def test_dtype_and_attention_belong_to_the_model(use, own, items, tmp_path):
    eager = tiny_llava(attention="eager")
    half = tiny_llava()
    half.model.to(torch.bfloat16)
    for changed in (eager, half):
        with pytest.raises(BridgeError, match="weights, dtype, attention or configuration differ"):
            USES[use](changed, items, plan_of(own), tmp_path)


def test_a_change_in_this_process_is_another_model(items):
    vlm = tiny_llava()
    plan, measured = plan_of(vlm), profile(vlm, items)
    evidence = Evidence(vlm, items, measured)
    nested_plans(find_rule("shortgpt"), evidence)
    full = FullAnswers.ask(vlm, items, **SHORT)
    with torch.no_grad():
        vlm.layout.layers[2].mlp.down_proj.weight[0, 0] += 1.0
    with pytest.raises(BridgeError, match="the plan was made for tiny"):
        certify(vlm, items, plan, **SHORT)
    with pytest.raises(BridgeError, match="the plan was made for tiny"):
        skipping(vlm, plan).__enter__()
    with pytest.raises(
        BridgeError, match=r"profile is of tiny \(\w{12}\), this is tiny \(\w{12}\)"
    ):
        choose_plan(vlm, measured, items, **SHORT)
    with pytest.raises(BridgeError, match="changed after its first measurement"):
        nested_plans(find_rule("shortgpt"), evidence)
    with pytest.raises(BridgeError, match="are now others"):
        full.outcomes(vlm, SkipPlan("block", 4, layers=(1,)))


def test_a_profile_of_another_model_is_refused(own, other, items):
    measured = profile(own, items)
    assert measured.fingerprint == own.fingerprint
    assert measured.images == image_ids(items)
    assert Profile.from_json(json.loads(measured.dumps())) == measured
    for use in (
        lambda: Evidence(other, items, measured),
        lambda: choose_plan(other, measured, items, **SHORT),
    ):
        with pytest.raises(BridgeError, match=rf"this is tiny \({other.fingerprint[:12]}\)"):
            use()


def test_stored_states_name_their_model(own, items, tmp_path):
    reservoir = Reservoir(rows=5)
    profile(own, items, reservoir=reservoir)
    reservoir.samples.save(tmp_path)
    assert Samples.load(tmp_path).fingerprint == own.fingerprint


RUNS = {
    "full answers": lambda vlm, items, file: FullAnswers.ask(vlm, items, checkpoint=file, **SHORT),
    "compare": lambda vlm, items, file: compare(
        vlm, items, SkipPlan("block", 4, layers=(1,)), checkpoint=file, **SHORT
    ),
    "certify": lambda vlm, items, file: certify(
        vlm, items, SkipPlan("block", 4, layers=(1,)), checkpoint=file, **SHORT
    ),
    "sweep": lambda vlm, items, file: sweep(
        vlm, items, [SkipPlan("block", 4, layers=(1,))], checkpoint=file
    ),
    "profile": lambda vlm, items, file: profile(vlm, items, checkpoint=file),
    "method": lambda vlm, items, file: run_method(
        vlm, [], items, find_method("unified"), folder=file, pairs=1, tokens=0, **SHORT
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_checkpoint_belongs_to_weights_dtype_and_attention(name, own, other, items, tmp_path):
    file = tmp_path / "checkpoint"
    first = RUNS[name](own, items, file)
    again = RUNS[name](own, items, file)
    if name not in ("method", "profile"):  # which measure time, and hold NaN
        assert again == first
    for changed in (other, tiny_llava(attention="eager")):
        here, there = changed.fingerprint[:12], own.fingerprint[:12]
        differs = rf"belongs to another run .*fingerprint {there} there, {here} here"
        with pytest.raises(BridgeError, match=differs):
            RUNS[name](changed, items, file)


def test_certificates_and_comparisons_name_the_model(own, items):
    plan = plan_of(own)
    for made in (*certify_both(own, items, plan, **SHORT), compare(own, items, plan, **SHORT)):
        assert (made.model, made.fingerprint) == ("tiny", own.fingerprint)
    by_hand = certify(own, items, SkipPlan("freeze", 4, layers=(3,)), **SHORT)
    assert "the plan is made by hand, it names neither a model nor" in by_hand.sentence()
    made = certify(own, items, plan, **SHORT)
    assert "by hand" not in made.sentence()
    assert made.sentence().endswith("assuming these 5 images were not used before")
    assert "these 5 images were not used before" in made.assumed
    assert any("number of images, 5, were fixed before" in line for line in made.assumed)
    assert Certificate.from_json(json.loads(made.dumps())) == made


# --- spent images -------------------------------------------------------------------------------

TOY = toy_vlm()
L = TOY.n_layers


@pytest.fixture(scope="module")
def toy():
    return toy_llava(TOY)


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    made = toy_items(TOY, tmp_path_factory.mktemp("toy"), images=60, questions_per_image=1)
    return made[:20], made[20:]


CANDIDATES = [SkipPlan("freeze", L, layers=tuple(range(k, L))) for k in range(L - 1, 0, -1)]


def test_what_a_search_found_names_all_its_images(toy, splits):
    tuning, held = splits
    found = search(toy, tuning, held, CANDIDATES, epsilon=0.1)
    assert found.certificate is not None
    for plan in (found.plan, *(step.plan for step in found.path)):
        origin = plan.provenance
        assert (origin.model, origin.fingerprint) == ("toy", toy.fingerprint)
        assert origin.tuned == image_ids(tuning)
        assert origin.certified == image_ids(held)
        assert SkipPlan.from_json(json.loads(json.dumps(plan.to_json()))).provenance == origin
    with pytest.raises(BridgeError, match="40 of these images certified the plan"):
        certify(toy, held, found.plan)
    with pytest.raises(BridgeError, match="20 of these images chose the plan"):
        certify(toy, tuning, found.plan)
    with pytest.raises(BridgeError, match="40 of these images certified the plan"):
        search(toy, tuning, held, [found.plan])
    nothing = search(toy, tuning, held, [SkipPlan("block", L, layers=(0,))], epsilon=0.1)
    assert nothing.plan.provenance.tuned == image_ids(tuning)


def test_one_declared_unit_on_both_sides_is_refused(toy, splits):
    tuning, held = splits
    named = [
        [replace(item, cluster=f"patient{k % 10}") for k, item in enumerate(some)]
        for some in (tuning, held)
    ]
    with pytest.raises(BridgeError, match=r"10 units are in both splits.*as cluster 'patient0'"):
        search(toy, *named, CANDIDATES, epsilon=0.1)
    path = tuned_path(toy, named[0], CANDIDATES, epsilon=0.1)
    with pytest.raises(BridgeError, match="10 of these units chose the plan"):
        certify(toy, named[1], path[0].plan)
    with pytest.raises(BridgeError, match="are in both profiling and answered questions"):
        run_method(toy, *named, find_method("unified"))
    with pytest.raises(BridgeError, match="'profiling' and 'tuning' share an image or a cluster"):
        Splits(*(tuple(named[k]) for k in (0, 1, 0, 1)))


def test_copies_of_an_image_are_one_image(tmp_path):
    for name in ("a.png", "b.png"):
        picture(0).save(tmp_path / name)
    first, copy = (Item(tmp_path / name, "?") for name in ("a.png", "b.png"))
    assert image_hashes([first]) == image_hashes([copy])
    assert set(image_ids([first])) & set(image_ids([copy]))


def test_images_that_ranked_the_layers_do_not_certify(own, items):
    ranked, rest = items[:3], items[3:]
    rule = find_rule("shortgpt")
    for evidence in (Evidence(own, ranked), Evidence(profile=profile(own, ranked))):
        plan = nested_plans(rule, evidence)[0]
        assert plan.provenance.profiled == image_ids(ranked)
        assert plan.provenance.fingerprint == own.fingerprint
        with pytest.raises(BridgeError, match="of these images ranked the layers of the plan"):
            certify(own, ranked[:1], plan, **SHORT)
    grown = greedy_plans(rule, Evidence(own, ranked), "block", width=2, most=1)
    assert grown[0].provenance.profiled == image_ids(ranked)
    chosen = choose_plan(own, profile(own, ranked), rest, **SHORT)
    assert chosen.provenance.profiled == image_ids([*ranked, *rest])
    assert chosen.provenance.tuned == image_ids(rest)
    assert chosen.provenance.max_new_tokens == 2
    control = nested_plans(find_rule("random"), Evidence(own, ranked))[0]
    assert control.provenance.profiled == ()  # it reads nothing about the images


def test_unions_and_compositions_keep_every_image(own, other):
    def plan(mode, **uses):
        fields = {"layers": (1,)} if mode in ("block", "freeze") else {"mlp": (1,)}
        return SkipPlan(mode, 4, **fields, provenance=Provenance(fingerprint="f", **uses))

    profiled, tuned = plan("block", profiled=("a",)), plan("block", tuned=("b",), rule="x")
    certified = plan("sublayer", certified=("c",), max_new_tokens=8)
    assert union([profiled, tuned]).provenance.spent == {"a", "b"}
    whole = SkipPlan.compose(replace(tuned, layers=(2,)), certified)
    assert whole.provenance == Provenance(
        fingerprint="f", rule="x", tuned=("b",), certified=("c",), max_new_tokens=8
    )
    direct = SkipPlan(whole.mode, 4, parts=whole.parts)
    assert direct.provenance == whole.provenance
    moved = replace(whole, provenance=Provenance(tuned=("d",)))
    assert moved.provenance.spent == {"b", "c", "d"}
    assert SkipPlan.from_json(whole.to_json()).provenance == whole.provenance
    with pytest.raises(BridgeError, match="the plan was made for tiny"):
        union([plan_of(own), plan_of(other)])


# --- the ledger ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_second_search_gets_what_is_left(toy, splits, tmp_path):
    tuning, held = splits
    file = tmp_path / "ledger.jsonl"
    asked = {"epsilon": 0.2, "ledger": file}
    first = search(toy, tuning, held, CANDIDATES, **asked)
    assert first.certificate is not None
    said = f"by the ledger {file}, delta 0.05 of 0.05 is spent here on this data and 0 before"
    assert said in first.certificate.sentence()
    assert "before, assuming no use outside it" in first.certificate.sentence()
    assert first.certificate.assumed[-2:] == (
        f"these {len(held)} images were not used before outside the ledger",
        "the plan does not depend on earlier results on this data",
    )
    again = search(toy, tuning, held, CANDIDATES, **asked)
    assert again.to_json() == first.to_json()
    with pytest.raises(BridgeError, match="leaves no delta for this data: a search of toy"):
        search(toy, tuning, held, bands(L), **asked)
    with pytest.raises(BridgeError, match="leaves no delta"):
        certify(toy, held[:1], CANDIDATES[0], ledger=file)
    free = search(toy, tuning, held, bands(L), epsilon=0.2)
    assert free.certificate is not None
    assert free.certificate.sentence().endswith("assuming these 40 images were not used before")


def test_certificates_at_what_is_left_are_wider(toy, splits, tmp_path):
    held = splits[1]
    file = tmp_path / "ledger.jsonl"
    asked = {"epsilon": 0.2, "ledger": file}
    first, drop = certify_both(toy, held, CANDIDATES[0], delta=0.02, **asked)
    assert (first.delta, drop.delta) == (0.02, 0.02)
    assert "delta 0.04 of 0.04 is spent here" in first.sentence()
    same = certify_both(toy, held, CANDIDATES[0], delta=0.02, **asked)
    assert same == [first, drop]
    with pytest.raises(BridgeError, match="leaves no delta"):
        certify_both(toy, held, CANDIDATES[1], delta=0.02, **asked)


def test_a_refused_request_spends_nothing(own, toy, splits, tmp_path):
    file = tmp_path / "ledger.jsonl"
    held = splits[1]
    for bad in ({"epsilon": 7}, {"delta": 0}, {"method": "luck"}, {"quantity": "loss"}):
        with pytest.raises(BridgeError):
            certify(toy, held, CANDIDATES[0], ledger=file, **bad)
    with pytest.raises(BridgeError):
        certify(toy, held, SkipPlan("freeze", 4, layers=(1,)), ledger=file)
    with pytest.raises(BridgeError):
        certify(toy, held, plan_of(own), ledger=file)
    assert not file.exists()


def test_the_command_line_keeps_a_ledger_beside_the_results(folder, jsonl, tmp_path, capsys):
    out = tmp_path / "out" / "certificates.json"
    shared = ("--data", jsonl, "--epsilon", "0.9", "--max-new-tokens", "2", "--out", out)
    assert run("certify", folder, "freeze layers=3", *shared) == 0
    assert (
        f"by the ledger {out.parent / 'ledger.jsonl'}, delta 0.1 of 0.1 is spent here"
        in capsys.readouterr().out
    )
    assert (tmp_path / "out" / "ledger.jsonl").is_file()
    assert run("certify", folder, "freeze layers=3", *shared) == 0  # the same run
    capsys.readouterr()
    assert run("certify", folder, "freeze layers=2", *shared) == 2
    assert "leaves no delta for this data: a certification of" in capsys.readouterr().err
    assert run("certify", folder, "freeze layers=2", *shared, "--no-ledger") == 0
    assert "assuming these 5 images were not used before" in capsys.readouterr().out
    mine = ("--ledger", tmp_path / "mine.jsonl", "--ledger-delta", "0.5")
    assert run("certify", folder, "freeze layers=2", *shared, *mine) == 0
    assert "delta 0.1 of 0.5 is spent here" in capsys.readouterr().out
    assert run("certify", folder, "freeze layers=2", *shared, *mine, "--no-ledger") == 2
    assert "--no-ledger goes with neither" in capsys.readouterr().err
    assert len(read_jsonl(jsonl)) == 9


@pytest.mark.parametrize("command", ["certify", "search"])
def test_help_says_what_the_ledger_is_for(command, capsys):
    assert run(command, "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--ledger" in text
    assert "A ledger keeps" in text
    assert "is in it gets the delta" in text or "that are in it gets the delta" in text


def test_the_difference_of_two_runs_is_said_in_one_line():
    there = {"\n": 1, "equal": [1], "flag": True, "text": "a\nb"}
    here = {"equal": [1], "flag": 1, "text": "c"}
    said = r'flag true there, 1 here, text "a\nb" there, c here, "\n" 1 there, null here'
    assert difference(there, here) == said
