"""The real tools of others, each in an environment of its own that a variable names."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

import vlm_bridge as vb
from vlm_bridge.data import limit_per_image, scenes

ROOT = Path(__file__).parents[2]


def in_environment(variable: str, *arguments: str, cwd: Path = ROOT) -> str:
    """What a command of that environment's Python prints; the test is skipped without one."""
    python = os.environ.get(variable)
    if not python:
        pytest.skip(f"{variable} names no Python with these packages")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [python, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.full
def test_caches_of_nnsight_and_transformer_lens_have_the_numbers_of_plain_hooks():
    said = in_environment("SKIPIT_LENS_PYTHON", "-m", "tests.vlm_bridge.lens_worker")
    for tool, by_form in json.loads(said.splitlines()[-1]).items():
        expected = by_form.pop("hooks")
        assert len(by_form) == 2
        for form, found in by_form.items():
            for measure, values in expected.items():
                assert len(values) == 3, (tool, form)
                assert found[measure] == pytest.approx(values, rel=1e-6), (tool, form, measure)


@pytest.mark.full
def test_lmms_eval_answers_and_scores_as_our_verbs_and_shares_no_cached_answer(tmp_path):
    """The full model and a harmful plan on one cache, each twice: asked, then from the cache."""
    task = ROOT / "examples" / "lmms_eval"
    in_environment("SKIPIT_LMMS_PYTHON", str(task / "scenes_task.py"), cwd=tmp_path)
    items = limit_per_image(scenes("test"), 1)[:24]
    vlm = vb.load("reference-smolvlm")
    found = []
    for turn in range(2):
        for name, plan in (("full", ""), ("skipped", "block 2-5")):
            out = tmp_path / f"{name}-{turn}"
            chosen = f",plan={plan}" if plan else ""
            in_environment(
                "SKIPIT_LMMS_PYTHON",
                *("-m", "lmms_eval", "--model", "skipit", "--tasks", "scenes_lmms"),
                *("--model_args", f"pretrained=reference-smolvlm{chosen}", "--log_samples"),
                *("--include_path", str(task), "--batch_size", "8", "--output_path", str(out)),
                *("--use_cache", str(tmp_path / "cache")),
                cwd=tmp_path,
            )
            (samples,) = out.rglob("*samples_scenes_lmms.jsonl")
            lines = [json.loads(line) for line in samples.read_text().splitlines()]
            lines.sort(key=lambda line: line["doc_id"])
            (results,) = out.rglob("*results.json")
            score = json.loads(results.read_text())["results"]["scenes_lmms"]["exact_match,none"]
            found.append(([line["filtered_resps"] for line in lines], score))
    comparison = vb.compare(vlm, items, "block 2-5", max_new_tokens=8)
    full = vb.answer(vlm, items, max_new_tokens=8)
    with vb.skipping(vlm, "block 2-5"):
        skipped = vb.answer(vlm, items, max_new_tokens=8)
    assert full != skipped
    for (answers, score), ours, accuracy in zip(
        found,
        (full, skipped) * 2,
        (comparison.accuracy_full, comparison.accuracy_skipped) * 2,
        strict=True,
    ):
        assert answers == ours
        assert score == pytest.approx(accuracy.value, abs=1e-4)
