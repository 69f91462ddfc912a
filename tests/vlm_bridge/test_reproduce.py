"""`skipit reproduce` on tiny models of the published classes: what it measures, says and keeps."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from scipy.stats import spearmanr

from tests.vlm_bridge.families.processors import with_processor
from tests.vlm_bridge.tiny import picture
from vlm_bridge import cli
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.sweep import sweep
from vlm_bridge.experiments.reproduce import (
    Machine,
    Published,
    Reproduction,
    find_published,
    forward_cost_of,
    needs_of,
    reproduce,
    write_reproduction,
)
from vlm_bridge.experiments.reproduce.run import _ranks
from vlm_bridge.rules import VTW, Evidence, find_rule, score_units
from vlm_bridge.rules.published.vtw import first_below

pytestmark = pytest.mark.slow

#: The classes of the four published models.
CLASSES = {
    "LLaVA": "llava-1.5-7b",
    "LLaVA-NeXT": "llava-next-7b",
    "Qwen2.5-VL": "qwen2.5-vl-7b",
    "DeepSeek-VL": "deepseek-vl-7b",
}
TINY = Published(
    "tiny", "none", 4, parameters=1e4, tokens=10, shortv_order=(3, 0), vtw_depth=2, vtw_eta=0.5
)


@pytest.fixture
def split(tmp_path):
    """Questions about 4 images that give the orders, and 4 that test them."""
    asked = ("is there a circle ?", "what is red ?")
    made = []
    for number in range(8):
        path = tmp_path / f"{number}.png"
        picture(number).save(path)
        made += [Item(path, question, "yes", str(number)) for question in asked]
    return made[:8], made[8:]


def run(family, split, folder, published=TINY, **options):
    vlm = with_processor(family)
    return vlm, reproduce(vlm, published, *split, folder, pairs=1, **options)


@pytest.mark.parametrize(
    "family",
    [pytest.param(name, marks=() if name == "LLaVA" else pytest.mark.slow) for name in CLASSES],
)
def test_the_protocol_on_every_published_class(family, split, tmp_path):
    vlm, found = run(family, split, tmp_path / "out")
    evidence = Evidence(vlm, split[0], batch_size=4)
    assert found.shortv_kl == pytest.approx(score_units(find_rule("shortv"), evidence), rel=1e-3)
    assert found.vtw_kl == pytest.approx(score_units(find_rule("vtw"), evidence), rel=1e-3)
    choice = VTW(eta=0.5).choice(evidence)
    assert found.vtw_depth == (None if choice is None else choice.exit)
    best = set(found.shortv_order[:2])
    assert set(found.own_plan.plan.layers) == best
    common = len(best & {3, 0})
    assert found.overlap.jaccard == common / (4 - common)
    assert found.published_plan.plan.layers == (0, 3)
    ours = [found.shortv_kl[3], found.shortv_kl[0]]
    assert found.order_agreement == pytest.approx(spearmanr(ours, [0, 1]).statistic)
    assert found.n_profiling == found.n_images == found.own_plan.n_images == 4
    assert len(found.sweep) == 4 + 5 + 5
    assert found.profile.n_layers == 4
    assert found.flops_ratio < 1
    assert Reproduction.from_json(json.loads(found.dumps())) == found


def test_nothing_published_is_said(split, tmp_path):
    bare = replace(TINY, shortv_order=(), vtw_depth=None, vtw_eta=None)
    _, found = run("LLaVA", split, tmp_path / "out", bare, share=0.5)
    assert found.overlap is found.order_agreement is found.published_plan is None
    assert len(found.own_plan.plan.layers) == 2
    assert found.vtw_depth == first_below(found.vtw_kl, VTW.eta)
    lines = write_reproduction(found, bare, tmp_path)
    assert lines[-1].startswith("No order and no depth is published")
    assert Reproduction.from_json(found.to_json()) == found


def dying_on_its_second_sweep():
    calls = []

    def dying(*given, **named):
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return sweep(*given, **named)

    return dying


def test_a_killed_run_goes_on(split, tmp_path, monkeypatch):
    whole = run("LLaVA", split, tmp_path / "whole")[1]
    killed = tmp_path / "killed"
    with monkeypatch.context() as patch:
        patch.setattr("vlm_bridge.experiments.reproduce.run.sweep", dying_on_its_second_sweep())
        with pytest.raises(KeyboardInterrupt):
            run("LLaVA", split, killed)
    kept = {path.name for path in killed.iterdir()}
    assert kept >= {"profile.json", "orders.jsonl"}
    with monkeypatch.context() as patch:
        patch.setattr("vlm_bridge.experiments.reproduce.run.profile", None)  # it is not made again
        again = run("LLaVA", split, killed)[1]
    assert again.shortv_kl == whole.shortv_kl
    assert again.sweep == whole.sweep
    assert again.own_plan == whole.own_plan


def test_the_page_holds_both_columns(split, tmp_path):
    _, found = run("LLaVA", split, tmp_path / "out")
    lines = write_reproduction(found, TINY, tmp_path)
    text = (tmp_path / "reproduction.md").read_text()
    assert text.startswith("\n".join(lines))
    assert "| layers frozen first (ShortV) | 3, 0 |" in text
    assert f"Jaccard {found.overlap.jaccard:.2f}" in text
    assert "layer 2 at 0.5 nats" in text
    for name in ("profile", "depth", "layers"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5_000


def test_other_weights_are_refused(split, tmp_path):
    with pytest.raises(BridgeError, match=r"llava-1.5-7b has 32 layers, .* has 4"):
        run("LLaVA", split, tmp_path, find_published("llava-1.5-7b"))


def test_images_in_both_sets_are_refused(split, tmp_path):
    with pytest.raises(BridgeError, match="4 images both give the orders and test them"):
        run("LLaVA", (split[0], split[0]), tmp_path)


def test_layers_that_a_published_order_leaves_out_come_last():
    assert _ranks((3, 0), 4) == [1.0, 4.0, 4.0, 0.0]


@pytest.mark.parametrize("depth", range(1, 5))
def test_first_below(depth):
    values = [0.5, 0.001, 0.4, 0.002]
    expected = {1: 2, 2: 2, 3: 4, 4: 4}[depth]
    assert first_below(values, 0.003, first=depth) == expected
    assert first_below(values, 0.0005, first=depth) is None


def test_what_a_machine_lacks():
    needs = needs_of(find_published("llava-1.5-7b"), forward_cost=10)
    assert Machine("cuda:0", 40.0, 100.0).lacks(needs, download=True) == []
    assert Machine("cuda:0", 40.0, 1.0).lacks(needs, download=False) == []
    small = Machine("cuda:0", 8.0, 1.0).lacks(needs, download=True)
    assert [line.split(" of ")[0] for line in small] == ["16 GiB", "13 GiB"]
    here = Machine.here()
    assert here.device == "cpu"
    assert here.memory_gib > 0 < here.disk_gib


def test_passes_are_those_of_the_run():
    # profile, full model, 4 freezes, 3 exits; full model, 14 plans swept, two plans beside it
    assert forward_cost_of(4, 10, 100) == 10 * 9 + 100 * (1 + 14 + 4)


def command(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        cli.main(["reproduce", *map(str, words)])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


@pytest.fixture
def data(split, tmp_path):
    rows = [
        {"image": one.image.name, "question": one.question, "answer": one.answer}
        for part in split
        for one in part
    ]
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_the_command_says_what_it_needs_and_refuses(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Machine, "here", lambda device=None: Machine("cpu", 4.0, 100.0))
    words = ("llava-1.5-7b", "--data", data, "--profiling", 4, "--out", tmp_path / "out")
    code, out, err = command(capsys, *words)
    assert code == 2
    assert "16 GiB of device memory, 13 GiB to download" in out
    assert "weights: llava-hf/llava-1.5-7b-hf (from the hub, over the network)" in out
    assert "needs 16 GiB of memory on cpu, 4 are free; --force starts anyway" in err


def test_the_command_asks_before_it_starts(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Machine, "here", lambda device=None: Machine("cpu", 99.0, 100.0))
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    words = ("llava-1.5-7b", "--data", data, "--profiling", 4, "--out", tmp_path / "out")
    code, out, _ = command(capsys, *words)
    assert code == 1
    assert "Start?" in out


def test_the_command_runs_given_weights(data, tmp_path, capsys, monkeypatch, folder):
    monkeypatch.setattr("vlm_bridge.cli.reproducing.find_published", lambda name: TINY)
    words = (
        "tiny",
        "--data",
        data,
        "--profiling",
        4,
        "--weights",
        folder,
        "--yes",
        "--dtype",
        "float32",
    )
    code, out, _ = command(capsys, *words, "--pairs", 1, "--out", tmp_path / "out")
    assert code == 0
    assert "over the network" not in out
    body = json.loads((tmp_path / "out" / "reproduction.json").read_text())
    assert Reproduction.from_json(body).n_images == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("gpt-5",), "no published results for 'gpt-5'; choose from llava-1.5-7b"),
        (("llava-1.5-7b", "--profiling", 8), "has 8 images; the first 8 order the layers"),
    ],
)
def test_the_command_refuses(words, message, data, tmp_path, capsys):
    code, _, err = command(capsys, *words, "--data", data, "--out", tmp_path / "out")
    assert code == 2
    assert message in err
