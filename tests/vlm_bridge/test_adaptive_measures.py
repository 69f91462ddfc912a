"""What an adaptive plan costs and how long it takes: question by question, no padding."""

from __future__ import annotations

import json
import math

import pytest

from tests.vlm_bridge.command_line import run
from tests.vlm_bridge.tiny import picture, tiny_llava
from vlm_bridge.cost import count_flops
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate import adaptive_cost, adaptive_latency
from vlm_bridge.evaluate.adaptive import adaptive_answers
from vlm_bridge.evaluate.adaptive_cost import gate_costs
from vlm_bridge.evaluate.adaptive_latency import stream_latency, stream_places
from vlm_bridge.evaluate.answers import answer, answer_batch
from vlm_bridge.model.prompts import collate
from vlm_bridge.plan.adaptive import AdaptivePlan, Gate
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip import skipping

EXIT = SkipPlan("early_exit", 4, exit=1)
ALWAYS = AdaptivePlan((Gate(EXIT),))
SHORT = {"max_new_tokens": 2}


@pytest.fixture(scope="module")
def vlm():
    return tiny_llava()


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """20 images with one question each: 18 short ones, then 2 long ones."""
    folder = tmp_path_factory.mktemp("pictures")
    items = []
    for number in range(20):
        picture(number).save(folder / f"{number}.png")
        words = "red ?" if number < 18 else "what is the blue shape in the image ? " * 9
        items.append(Item(folder / f"{number}.png", words.strip(), "yes"))
    return items


def alone(vlm, item, plan):
    """Prefill FLOPs of the full model and of a fixed plan on one question."""
    batch = collate(vlm, [item], [0])

    def prefill():
        answer_batch(vlm, batch, max_new_tokens=1)

    full = count_flops(prefill)
    with skipping(vlm, plan):
        return full, count_flops(prefill)


def test_flops_are_sums_over_questions_each_alone(vlm, asked):
    """Short and long prompts: neither padding nor a mean of ratios gives the same."""
    mixed = [asked[0], asked[19], asked[1]]
    counts = [alone(vlm, item, EXIT) for item in mixed]
    ratio = sum(plan for _, plan in counts) / sum(full for full, _ in counts)
    mean = sum(plan / full for full, plan in counts) / 3
    assert gate_costs(vlm, mixed, ALWAYS)[0] == pytest.approx(ratio)
    assert abs(mean - ratio) > 0.01


def test_flops_are_of_the_first_questions(vlm, asked, monkeypatch):
    assert adaptive_cost.SAMPLED == 16
    monkeypatch.setattr(adaptive_cost, "SAMPLED", 2)
    mixed = [asked[0], asked[19], asked[18]]
    found = gate_costs(vlm, mixed, ALWAYS)[0]
    assert found == pytest.approx(gate_costs(vlm, mixed[:2], ALWAYS)[0])
    assert abs(found - gate_costs(vlm, mixed[:1], ALWAYS)[0]) > 0.01
    with pytest.raises(BridgeError, match="no items on which to count FLOPs"):
        gate_costs(vlm, [], ALWAYS)


# --- latency ------------------------------------------------------------------------------------


def of_one_image(items):
    """Three questions about each image."""
    return [Item(item.image, question, "yes") for item in items for question in ("a", "b", "c")]


def test_at_batch_size_one_every_question_is_a_batch(vlm, asked, monkeypatch):
    """In the order of the data, though three are about one image; the image stays the unit."""
    items, timed = of_one_image(asked[:3]), []
    made = adaptive_latency.generated

    def watched(vlm, inputs, **options):
        timed.append(len(inputs["input_ids"]))
        return made(vlm, inputs, **options)

    monkeypatch.setattr(adaptive_latency, "generated", watched)
    found = stream_latency(vlm, items, ALWAYS, batch_size=1, **SHORT)
    assert set(timed) == {1}
    assert (found.n_batches, found.n_questions, found.fixed_ratio.n) == (9, 9, 3)
    assert stream_places(items, 1) == [[place] for place in range(9)]
    pairs = stream_latency(vlm, items, ALWAYS, batch_size=6, **SHORT)
    assert (pairs.n_batches, pairs.n_questions, pairs.fixed_ratio.n) == (2, 9, 2)


@pytest.mark.parametrize(("size", "n"), [(1, 1), (8, 2), (1, 0), (6, 2)])
def test_what_gives_no_interval_is_refused(asked, size, n):
    with pytest.raises(BridgeError, match=r"gives no interval|there are no items"):
        stream_places(of_one_image(asked[:n]), size)


@pytest.mark.parametrize("size", [0, -1, True, 2.0, "8"])
def test_a_batch_holds_a_question_at_least(vlm, asked, size):
    for use in (
        lambda: adaptive_answers(vlm, asked[:2], ALWAYS, batch_size=size, **SHORT),
        lambda: stream_latency(vlm, asked[:2], ALWAYS, batch_size=size, **SHORT),
        lambda: answer(vlm, asked[:2], batch_size=size, **SHORT),
    ):
        with pytest.raises(BridgeError, match="batch_size is a whole number of questions"):
            use()


# --- the command --------------------------------------------------------------------------------


@pytest.fixture
def command(folder, asked, tmp_path):
    """`skipit adaptive` on the first n questions, and the file that it writes."""
    rows = [{"image": item.image.name, "question": item.question} for item in asked]
    data, plan, out = asked[0].image.parent / "d.jsonl", tmp_path / "p.json", tmp_path / "r.json"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    plan.write_text(AdaptivePlan((Gate(EXIT, threshold=math.inf),)).dumps())

    def call(n, *words):
        words = ("--data", data, "--limit", n, "--max-new-tokens", 2, "--out", out, *words)
        return run("adaptive", folder, plan, *words)

    return call, out


@pytest.mark.parametrize(
    ("n", "words", "says"),
    [
        (5, (), "--latency 0"),  # one batch of 8
        (10, ("--latency", 8), "--latency 0"),
        (10, ("--latency", 11), "the data has 10; give --latency 10 or less"),
    ],
)
def test_too_few_to_time_is_said_before_the_work(command, monkeypatch, capsys, n, words, says):
    call, out = command
    monkeypatch.setattr("vlm_bridge.cli.options.load", None)
    monkeypatch.setattr("vlm_bridge.cli.adaptive.FullAnswers.ask", None)
    assert call(n, *words) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not out.exists()


def test_by_default_all_of_few_questions_are_timed(command, capsys):
    call, out = command
    assert call(10) == 0
    assert "whole answers at batch 1" in capsys.readouterr().out
    timed = json.loads(out.read_text())["latency"]
    assert [each["n_questions"] for each in timed] == [10, 10]
    assert [each["n_batches"] for each in timed] == [10, 2]
    assert call(5, "--latency", 0) == 0
    assert json.loads(out.read_text())["latency"] == []
