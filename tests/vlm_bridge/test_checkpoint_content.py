"""A stored batch of the right checksum and the wrong content is refused by file and line."""

from __future__ import annotations

import hashlib
import json
import math

import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tests.vlm_bridge.tiny import tiny_llava
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.evaluate.paired import paired_outcomes
from vlm_bridge.evaluate.sweep import sweep_outcomes
from vlm_bridge.observe.profile import profile
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.rules.measure.sensitivity import measure_sensitivity
from vlm_bridge.rules.measure.slopes import measure_slopes
from vlm_bridge.runtime.checkpoint import _line
from vlm_bridge.runtime.tensor_files import arrays_digest

PLAN = SkipPlan("block", 4, layers=(1,))


def answers(vlm, items):
    return FullAnswers(vlm.name, tuple(items), ("",) * len(items), 2)


RUNS = {
    "pairs": lambda vlm, items, c: paired_outcomes(
        vlm, items, PLAN, max_new_tokens=2, batch_size=2, checkpoint=c
    ),
    "full": lambda vlm, items, c: FullAnswers.ask(
        vlm, items, max_new_tokens=2, batch_size=2, checkpoint=c
    ),
    "answers": lambda vlm, items, c: answers(vlm, items).outcomes(
        vlm, PLAN, batch_size=2, checkpoint=c
    ),
    "sweep": lambda vlm, items, c: sweep_outcomes(vlm, items, [PLAN], batch_size=2, checkpoint=c),
    "slopes": lambda vlm, items, c: measure_slopes(
        vlm, items, kinds=["block"], batch_size=2, checkpoint=c
    ),
    "sensitivity": lambda vlm, items, c: measure_sensitivity(
        vlm, items, modes=["block"], batch_size=2, checkpoint=c
    ),
}


def shortened(value):
    """The result with one question less in its first column."""
    if isinstance(value, list) and value and not isinstance(value[0], dict):
        return value[1:]
    name = 0 if isinstance(value, list) else next(iter(value))
    changed = value.copy()
    changed[name] = shortened(value[name])
    return changed


@pytest.mark.parametrize("name", RUNS)
def test_a_wrong_result_is_refused(name, items, tmp_path):
    vlm, path = tiny_llava(), tmp_path / "checkpoint.jsonl"
    run, items = RUNS[name], items[:2]
    run(vlm, items, path)
    first, line = path.read_text().splitlines(keepends=True)
    right = json.loads(line)[1]
    for number, result in [
        (999, right),
        (-1, right),
        *((0, wrong) for wrong in ("x", {}, [], None, 1, [{}], {"texts": 1}, shortened(right))),
    ]:
        path.write_text(first + _line(number, result))
        with pytest.raises(BridgeError, match=r"checkpoint\.jsonl:2 holds no result of a batch"):
            run(vlm, items, path)
    path.write_text(first + line)
    run(vlm, items, path)


@pytest.mark.parametrize("wrong", ["x", 2, True, math.nan, None, [0.5], {"a": 1}])
def test_a_value_of_another_type_is_no_column(wrong, items, tmp_path):
    vlm, path = tiny_llava(), tmp_path / "checkpoint.jsonl"
    RUNS["answers"](vlm, items[:2], path)
    first, line = path.read_text().splitlines(keepends=True)
    result = json.loads(line)[1]
    result["outcomes"]["disagree"][0] = wrong
    path.write_text(first + _line(0, result))
    with pytest.raises(BridgeError, match="holds no result of a batch of this run"):
        RUNS["answers"](vlm, items[:2], path)


@pytest.mark.parametrize(
    ("column", "wrong"),
    [
        ("texts", 1),
        ("n_tokens", 1.5),
        ("n_tokens", True),
        ("beginnings", ["a", "b"]),
        ("beginnings", [1]),
        ("seconds", None),
    ],
)
def test_what_a_model_said_is_of_its_type(column, wrong, items, tmp_path):
    vlm, path = tiny_llava(), tmp_path / "checkpoint.jsonl"
    RUNS["pairs"](vlm, items[:2], path)
    first, line = path.read_text().splitlines(keepends=True)
    result = json.loads(line)[1]
    if column == "seconds":
        result["full"][column] = wrong
    else:
        result["full"][column][0] = wrong
    path.write_text(first + _line(0, result))
    with pytest.raises(BridgeError, match="holds no result of a batch of this run"):
        RUNS["pairs"](vlm, items[:2], path)


@pytest.mark.parametrize("batches", ["[99]", "[-1]", '["0"]', "[0.0]", "[true]", "[0, 0]", "0", ""])
def test_a_profile_with_other_batches_is_refused(batches, items, tmp_path):
    vlm, path = tiny_llava(), tmp_path / "checkpoint.safetensors"
    profile(vlm, items[:2], checkpoint=path)
    rewrite(path, batches, load_file(path))
    with pytest.raises(BridgeError, match="holds no numbers of batches of this run; delete it"):
        profile(vlm, items[:2], checkpoint=path)


def test_a_profile_with_other_sums_is_refused(items, tmp_path):
    vlm, path = tiny_llava(), tmp_path / "checkpoint.safetensors"
    profile(vlm, items[:2], checkpoint=path)
    arrays = load_file(path)
    for wrong in ({name: a[:1] for name, a in arrays.items()}, dict(list(arrays.items())[1:])):
        rewrite(path, "[0]", wrong)
        with pytest.raises(BridgeError, match="holds no sums of this run"):
            profile(vlm, items[:2], checkpoint=path)


def rewrite(path, batches, arrays):
    """A checkpoint of the same run with other content, and the checksum of that."""
    with safe_open(path, framework="numpy") as file:
        key = file.metadata()["key"]
    digest = hashlib.sha256(f"{batches} {arrays_digest(arrays)}".encode()).hexdigest()
    save_file(arrays, path, metadata={"key": key, "batches": batches, "sha256": digest})
