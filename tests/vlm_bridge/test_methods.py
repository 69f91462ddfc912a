"""Published methods: what they choose and compute, by hand; with a cache as without; end to end."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.vlm_bridge.families import FAMILIES, SITUATIONS, batch, tiny
from tests.vlm_bridge.families.configs import EOS, IMAGE
from tests.vlm_bridge.tiny import tiny_llava
from theory.systems import toy_vlm
from vlm_bridge import cli
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import answer
from vlm_bridge.methods import METHODS, find_method
from vlm_bridge.methods.passing import _Chosen, kept_rows
from vlm_bridge.methods.run import run_method
from vlm_bridge.model.toy import toy_items, toy_llava
from vlm_bridge.observe.hooks import capturing_states
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules import Evidence
from vlm_bridge.rules.controls import evenly
from vlm_bridge.rules.published import gm_skip
from vlm_bridge.skip import skipping
from vlm_bridge.skip.pass_state import PassState
from vlm_bridge.skip.sublayers import Sublayers

NAMES = ["LLaVA", "Qwen2.5-VL", "SmolVLM", "Gemma3"]


def planned(vlm, method):
    """What a method settles on with no question to look at."""
    return method.choose(Evidence(vlm, ()))


@pytest.mark.parametrize("family", NAMES)
@pytest.mark.parametrize("name", ["delask", "skip-vision", "evenly-spaced"])
@torch.no_grad()
def test_a_cache_changes_nothing(family, name):
    """Greedy tokens by `generate` are those of one uncached pass over the whole text."""
    vlm = tiny(FAMILIES[family])
    chosen = {"skip-vision": {"after": 1}, "delask": {"threshold": 0.3}}.get(name, {})
    method = find_method(name, **chosen)
    plan = planned(vlm, method)
    inputs = batch(FAMILIES[family], SITUATIONS["padded"])
    before = vlm.model(**inputs).logits
    length = inputs["input_ids"].shape[1]
    text = {
        "do_sample": False,
        "min_new_tokens": 4,
        "max_new_tokens": 4,
        "suppress_tokens": [IMAGE],
    }
    with method.applying(vlm, plan):
        made = vlm.model.generate(**inputs, **text)
        grown = dict(inputs)
        for step in range(4):
            logits = vlm.model(**grown, use_cache=False).logits[:, -1]
            logits[:, [IMAGE, EOS]] = -torch.inf
            new = made[:, length + step, None]
            assert (logits.argmax(-1, keepdim=True) == new).all()
            for name, more in (("input_ids", new), ("attention_mask", torch.ones_like(new))):
                grown[name] = torch.cat([grown[name], more], dim=1)
            for name in set(grown) & {"token_type_ids", "mm_token_type_ids"}:
                grown[name] = torch.cat([grown[name], torch.zeros_like(new)], dim=1)
    assert torch.equal(before, vlm.model(**inputs).logits)  # the model is itself again


@torch.no_grad()
def test_delask_takes_back_what_reverses():
    method = find_method("delask", blend=0.75)
    inputs = batch(FAMILIES["LLaVA"], SITUATIONS["single"])
    vlm = tiny(FAMILIES["LLaVA"])
    seen: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    outputs: dict[int, torch.Tensor] = {}
    handles = [
        layer.register_forward_hook(
            lambda _, args, kwargs, output, i=i: outputs.__setitem__(
                i, output[0] if isinstance(output, tuple) else output
            ),
            with_kwargs=True,
        )
        for i, layer in enumerate(vlm.layout.layers)
    ]
    with (
        method.applying(vlm, None),
        capturing_states(vlm, lambda i, a, b: seen.__setitem__(i, (a, b))),
    ):
        vlm.model(**inputs)
    for handle in handles:
        handle.remove()
    turned = 0
    for i in range(1, vlm.layout.n_layers):
        before, update = outputs[i - 1] - seen[i - 1][0], outputs[i] - seen[i][0]
        cosine = torch.nn.functional.cosine_similarity(before, update, dim=-1)
        share = torch.where(cosine < 0, 0.25, 1.0)[..., None]
        assert torch.allclose(seen[i][1], seen[i][0] + share * update, atol=1e-5)
        turned += int((cosine < 0).sum())
    assert turned > 0


@torch.no_grad()
def test_skip_vision_leaves_the_mlp_out_where_features_hardly_change():
    family = FAMILIES["LLaVA"]
    vlm, inputs = tiny(family), batch(family, SITUATIONS["padded"])
    method = find_method("skip-vision", after=1, keep=0.5)
    given_to: dict[int, torch.Tensor] = {}
    mlps = [Sublayers.of(layer).mlp for layer in vlm.layout.layers]
    handles = [
        mlp.gate_proj.register_forward_pre_hook(
            lambda _, args, i=i: given_to.__setitem__(i, args[0])
        )
        for i, mlp in enumerate(mlps)
    ]
    with method.applying(vlm, None):
        vlm.model(**inputs)
    for handle in handles:
        handle.remove()
    vision = vlm.layout.modality_flags(inputs["input_ids"])
    x = given_to[0]
    change = mlps[0](x).norm(dim=-1) / x.norm(dim=-1)
    for row, flags in enumerate(vision):
        places = flags.nonzero()[:, 0]
        order = change[row, places].argsort(descending=True)
        kept = set(places[order[: round(0.5 * len(places))]].tolist())
        rows = kept_rows(change, vision, 0.5)
        chosen = set(rows.index[row][rows.valid[row]].tolist())
        assert chosen == kept | set((~flags).nonzero()[:, 0].tolist())
    widest = max(int((~flags).sum()) + round(0.5 * int(flags.sum())) for flags in vision)
    assert all(given_to[i].shape[1] == widest < x.shape[1] for i in range(1, len(mlps)))


@given(seed=st.integers(0, 10_000), keep=st.floats(0.05, 0.95))
def test_kept_rows_are_text_and_the_tokens_that_change_most(seed, keep):
    draw = torch.Generator().manual_seed(seed)
    change = torch.rand(3, 9, generator=draw)
    vision = torch.rand(3, 9, generator=draw) < 0.6
    rows = kept_rows(change, vision, keep)
    for row in range(3):
        chosen = set(rows.index[row][rows.valid[row]].tolist())
        places = vision[row].nonzero()[:, 0].tolist()
        count = max(1, round(len(places) * keep)) if places else 0
        best = sorted(places, key=lambda place: -change[row, place])[:count]
        assert chosen == set((~vision[row]).nonzero()[:, 0].tolist()) | set(best)


def test_the_change_of_a_token_is_relative_to_it():
    now = PassState(torch.tensor([[False, True, True]]))
    chosen = _Chosen(0.5, SimpleNamespace(current=now))
    states, update = torch.tensor([[[1.0], [8.0], [2.0]]]), torch.tensor([[[0.0], [3.0], [1.0]]])
    # 3/8 against 1/2: the one that moves less changes more
    assert torch.equal(chosen.rank(lambda _: update, states), update)
    assert torch.equal(
        chosen.update(lambda rows: rows, states), torch.tensor([[[1.0], [0.0], [2.0]]])
    )


def test_layers_are_evenly_spaced_for_a_speed_up():
    vlm = tiny_llava(layers=10)
    assert planned(vlm, find_method("evenly-spaced", speed_up=1.43)).layers == (2, 5, 7)
    assert planned(vlm, find_method("evenly-spaced", speed_up=1.01)).is_empty
    with pytest.raises(BridgeError, match="leaves out 9 of 10 layers"):
        planned(vlm, find_method("evenly-spaced", speed_up=10.0))


@pytest.mark.parametrize(
    ("speed_up", "kept"),
    [
        (2, (*range(0, 30, 2), 31)),
        (3, (*range(0, 27, 3), 31)),
        (5, (0, 6, 12, 18, 24, 31)),
        (10, (0, 16, 31)),
        (16, (0, 31)),
    ],
)
def test_unified_keeps_the_layers_of_its_authors(speed_up, kept):
    assert find_method("unified", speed_up=speed_up).kept(32) == kept
    assert len(kept) == 32 // speed_up


@pytest.mark.parametrize(("speed_up", "overlap"), [(2, 0.39), (3, 0.59), (5, 0.79)])
def test_unified_is_not_evenly_spaced(speed_up, overlap):
    """Jaccard index of the layers that both skip at one speed-up."""
    theirs = set(range(32)) - set(find_method("unified", speed_up=speed_up).kept(32))
    ours = set(evenly(32, round(32 * (1 - 1 / speed_up))))
    assert len(theirs & ours) / len(theirs | ours) == pytest.approx(overlap, abs=0.005)


@pytest.mark.parametrize(("layers", "speed_up"), [(4, 3), (4, 4), (10, 6)])
def test_unified_keeps_two_layers_at_least(layers, speed_up):
    with pytest.raises(BridgeError, match=f"of {layers} layers, and the first and the last stay"):
        planned(tiny_llava(layers=layers), find_method("unified", speed_up=speed_up))


def modules_run(vlm, run):
    """(layer, length of its input) for each MLP that runs, in order."""
    runs: list[tuple[int, int]] = []
    handles = [
        Sublayers.of(layer).mlp.register_forward_pre_hook(
            lambda _, args, i=i: runs.append((i, args[0].shape[1]))
        )
        for i, layer in enumerate(vlm.layout.layers)
    ]
    run()
    for handle in handles:
        handle.remove()
    return runs


@pytest.mark.parametrize("family", NAMES)
@torch.no_grad()
def test_unified_skips_in_decoding_alone(family):
    """All layers run in the prefill; the kept ones alone run for each further token."""
    vlm = tiny(FAMILIES[family])
    method, n = find_method("unified", speed_up=2), vlm.layout.n_layers
    inputs = batch(FAMILIES[family], SITUATIONS["padded"])
    length = inputs["input_ids"].shape[1]
    options = {"do_sample": False, "min_new_tokens": 3, "max_new_tokens": 3}
    before = vlm.model(**inputs).logits
    with method.applying(vlm, planned(vlm, method)):
        assert torch.equal(vlm.model(**inputs).logits, before)
        runs = modules_run(vlm, lambda: vlm.model.generate(**inputs, **options))
    kept = method.kept(n)
    assert len(kept) < n
    assert runs[:n] == [(i, length) for i in range(n)]
    assert runs[n:] == [(i, 1) for i in (*kept, *kept)]
    assert torch.equal(before, vlm.model(**inputs).logits)


@torch.no_grad()
def test_unified_decodes_as_kept_layers_over_the_full_prefill():
    """Logits of a second token are those of the kept layers, run by hand on the full cache."""
    family = FAMILIES["LLaVA"]
    vlm, inputs = tiny(family), batch(family, SITUATIONS["single"])
    method = find_method("unified", speed_up=2)
    skipped = sorted(set(range(vlm.layout.n_layers)) - set(method.kept(vlm.layout.n_layers)))
    token = torch.tensor([[5]])
    with method.applying(vlm, None):
        cache = vlm.model(**inputs, use_cache=True).past_key_values
        fast = vlm.model(input_ids=token, past_key_values=cache).logits
    expected = vlm.model(**inputs, use_cache=True).past_key_values
    handles = [
        vlm.layout.layers[i].register_forward_hook(
            lambda _, args, kwargs, output: (
                (args[0] if args else kwargs["hidden_states"], *output[1:])
                if isinstance(output, tuple)
                else (args[0] if args else kwargs["hidden_states"])
            ),
            with_kwargs=True,
        )
        for i in skipped
    ]
    slow = vlm.model(input_ids=token, past_key_values=expected).logits
    for handle in handles:
        handle.remove()
    assert torch.allclose(fast, slow, atol=1e-5)
    for i in skipped:  # the newest entry is that of the kept layer below
        below = max(k for k in method.kept(vlm.layout.n_layers) if k < i)
        for part in ("keys", "values"):
            own, source = (getattr(cache.layers[j], part)[..., -1, :] for j in (i, below))
            assert torch.equal(own, source)


@pytest.mark.parametrize(
    ("accuracies", "trade_off", "patience", "expected"),
    [
        ([0.9, 0.9, 0.5, 0.1], 0.5, 1, (2, 3)),  # the third round loses more than it saves
        ([0.9, 0.5, 0.95, 0.9], 0.5, 1, (3,)),  # a dip ends an impatient search
        ([0.9, 0.5, 0.95, 0.9], 0.5, 2, (0, 1, 2, 3)),
        ([0.9, 0.8, 0.7, 0.6], 0.0, 2, (3,)),
        ([0.9, 0.8, 0.5, 0.1], 0.4, 1, (3,)),  # what is worth the same keeps more blocks
    ],
)
def test_gm_skip_trades_accuracy_for_blocks(monkeypatch, accuracies, trade_off, patience, expected):
    asked = []

    def made(evidence, mode):
        for layer, accuracy in zip((3, 2, 1, 0), accuracies, strict=True):
            asked.append(layer)
            yield layer, accuracy

    monkeypatch.setattr("vlm_bridge.methods.planned.rounds", made)
    method = find_method("gm-skip", trade_off=trade_off, patience=patience)
    assert planned(tiny_llava(), method) == SkipPlan("block", 4, layers=expected)
    assert len(asked) == min(4, len(expected) + patience) or len(expected) == 4


def test_gm_skip_takes_the_blocks_of_its_rule(items):
    evidence = Evidence(tiny_llava(), items)
    plan = find_method("gm-skip", trade_off=9.0, rounds=2).choose(evidence)
    with evidence.open_to("gm-skip", "labels"):
        first = [
            layer for layer, _ in zip(gm_skip.rounds(evidence, "block"), range(2), strict=False)
        ]
    assert plan.layers == tuple(sorted(layer for layer, _ in first))


@pytest.mark.parametrize("name", METHODS)
def test_end_to_end_on_the_toy(tmp_path, name):
    toy = toy_vlm()
    vlm, items = toy_llava(toy), toy_items(toy, tmp_path / "toy", images=8)
    result = run_method(
        vlm, items[:8], items[-8:], find_method(name), pairs=1, tokens=2, folder=tmp_path / "j"
    )
    assert result.accuracy_full.value == 1.0
    assert result.drop.value == pytest.approx(1 - result.accuracy.value)
    assert result.disagreement.n == len({item.cluster for item in items[-8:]})
    assert (result.plan is None) == (name in ("delask", "skip-vision", "unified"))
    ratio = result.cost.prefill.flops_ratio
    assert ratio == 1.0 if name in ("delask", "unified") else ratio < 1.0
    if name == "unified":
        assert result.cost.decode.flops_ratio < 0.7
    body = json.loads(json.dumps(result.to_json()))
    assert body["settings"] == METHODS[name].settings
    again = run_method(
        vlm, items[:8], items[-8:], find_method(name), pairs=1, tokens=2, folder=tmp_path / "j"
    )
    assert again.disagreement == result.disagreement


def test_what_a_method_breaks_is_in_its_accuracy(tmp_path):
    """Half of the toy's layers, safe or not."""
    toy = toy_vlm()
    vlm, items = toy_llava(toy), toy_items(toy, tmp_path, images=8)
    method = find_method("evenly-spaced", speed_up=2.0)
    result = run_method(vlm, [], items, method, pairs=1, tokens=0)
    with skipping(vlm, result.plan):
        texts = answer(vlm, items)
    right = np.mean([text == item.answer for text, item in zip(texts, items, strict=True)])
    assert result.accuracy.value == pytest.approx(right)
    assert result.drop.value == pytest.approx(1 - right)
    assert right < 0.5


def test_finished_batches_are_not_run_again(tmp_path, items, monkeypatch):
    vlm, method = tiny_llava(), find_method("delask")
    run_method(vlm, [], items, method, pairs=1, tokens=0, folder=tmp_path)
    monkeypatch.setattr("vlm_bridge.methods.run.answer_batch", None)
    monkeypatch.setattr("vlm_bridge.evaluate.full_answers.answer_batch", None)
    run_method(vlm, [], items, method, pairs=1, tokens=0, folder=tmp_path)
    with pytest.raises(BridgeError, match="another run"):
        run_method(vlm, [], items, find_method("delask", blend=0.2), folder=tmp_path)


def test_an_image_in_both_is_refused(items):
    with pytest.raises(BridgeError, match="5 images are in both profiling and answered questions"):
        run_method(tiny_llava(), items, items, find_method("gm-skip"))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("lucky", {}, "unknown method 'lucky'; choose from gm-skip"),
        ("unified", {"speed": 2}, "has no setting speed; it has speed_up"),
        ("unified", {"speed_up": 1.0}, "speed_up must be an integer from 2 on, got 1"),
        ("unified", {"speed_up": 2.5}, "speed_up must be an integer from 2 on, got 2.5"),
        ("evenly-spaced", {"speed_up": 1.0}, "speed_up must be above 1"),
        ("delask", {"blend": 0.0}, r"blend must lie in \(0, 1\]"),
        ("skip-vision", {"keep": 1.0}, r"keep lie in \(0, 1\)"),
        ("gm-skip", {"patience": 0}, "patience and rounds at least 1"),
    ],
)
def test_refusals(name, settings, message):
    with pytest.raises(BridgeError, match=message):
        find_method(name, **settings)


def test_skip_vision_needs_a_layer_to_pass_by():
    with pytest.raises(BridgeError, match="after=4 leaves no layer of 4"):
        planned(tiny_llava(), find_method("skip-vision", after=4))


def test_the_command(folder, jsonl, tmp_path, capsys):
    words = ["method", "evenly-spaced", str(folder), "--data", str(jsonl)]
    words += ["--set", "speed_up=1.5"]
    words += ["--pairs", "1", "--tokens", "0", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 0
    body = json.loads((tmp_path / "out" / "result.json").read_text())
    assert body["settings"] == {"speed_up": 1.5}
    assert body["plan"]["layers"] == [2]  # one of four, in the middle
    assert "disagreement of answers up to " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method", "gm-skip", "x", "--data", "y"], "gm-skip requires labels: name its questions"),
        (["method", "unified", "x", "--data", "y", "--set", "speed_up"], "NAME=VALUE"),
        (["method", "unified", "x", "--data", "y", "--set", "speed_up=fast"], "an integer from 2"),
        (
            ["method", "unified", "x", "--data", "y", "--set", "speed_up=1.2"],
            "speed_up of unified is an integer from 2 on, got '1.2'",
        ),
        (
            ["method", "evenly-spaced", "x", "--data", "y", "--set", "speed_up=nan"],
            "speed_up of evenly-spaced is a number above 1, got 'nan'",
        ),
        (["method", "gm-skip", "x", "--data", "y", "--set", "patience=1.5"], "an integer from 1"),
        (["method", "gm-skip", "x", "--data", "y", "--set", "speed=1"], "has no setting speed"),
    ],
)
def test_the_command_refuses(words, message, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_every_method_states_what_its_settings_take(method):
    assert list(method.takes) == list(method.settings)


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_every_method_states_how_it_deviates(method):
    assert len(method.deviation) > 40
    assert not method.deviation.startswith("none")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("unified", ("fine-tune",)),
        ("evenly-spaced", ("prefill", "integers", "fine-tuning")),
        ("gm-skip", ("first answer token", "CIDEr", "early blocks", "code")),
        ("skip-vision", ("by place", "summary tokens", "fine-tuning", "cache")),
        ("delask", ("layer before", "deeper", "text models", "code")),
    ],
)
def test_the_deviations_of_each_method_are_named(name, words):
    assert all(word in METHODS[name].deviation for word in words)


def test_methods_are_listed(capsys):
    with pytest.raises(SystemExit):
        cli.main(["methods"])
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["name", "settings", "requires", "source", "deviation"]
    assert [line[0] for line in lines[1:]] == list(METHODS)
    assert {len(line) for line in lines} == {5}
    assert lines[-1][1] == "speed_up=1.25"


def test_listed_methods_are_what_the_methods_say(capsys):
    with pytest.raises(SystemExit):
        cli.main(["methods", "--json"])
    about = ("name", "settings", "requires", "source", "deviation")
    assert json.loads(capsys.readouterr().out) == [
        {key: getattr(one, key) for key in about} for one in METHODS.values()
    ]
