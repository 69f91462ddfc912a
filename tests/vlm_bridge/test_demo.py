"""The demo on the real reference VLM, with few images: what it writes, and that it adds up."""

from __future__ import annotations

import json

import pytest

from estimators import Profile
from theory import Certificate
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.experiments.demo.run import DemoSize, run_demo
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.files import read_checked
from vlm_bridge.selection import CertifiedPlan

SMALL = DemoSize(
    profile=4, null_images=2, tuning=12, certification=12, test=8, sweep=4, step=15, batch_size=8
)


def test_an_output_that_cannot_be_written_is_said_before_any_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BridgeError, match="cannot write to"):
        run_demo(tmp_path / "file" / "out")


@pytest.mark.slow
def test_the_demo_writes_what_it_promises(tmp_path):
    demo = run_demo(tmp_path, size=SMALL, command="skipit demo --small")
    results = read_checked(tmp_path / "results.json", "results")
    assert results == json.loads(demo.results.dumps())
    assert demo.report == tmp_path / "report.html"
    for name in ("profile.png", "depth.png", "layers.png", "prediction.png", "report.html"):
        assert (tmp_path / name).stat().st_size > 10_000
    assert len(demo.lines) == 5
    for name in ("full", "blind", "no_vision", "skipped"):
        found = results[f"accuracy_{name}"]
        assert (found["n_images"], found["n_questions"]) == (8, 8)
        assert found["interval"][0] <= found["value"] <= found["interval"][1]
    plan = SkipPlan.from_json(results["plan"])
    assert plan.n_layers == 30
    certificate = Certificate.from_json(results["certificate"])
    assert certificate.quantity == "disagreement"
    assert certificate.n_images == 12
    assert certificate.plan_hash == plan.hash()
    assert certificate.sentence() in demo.lines[3]
    searched = CertifiedPlan.from_json(results["search"])
    assert searched.to_json() == results["search"]
    if searched.certificate is not None:
        assert searched.certificate == certificate
        assert certificate.bound == results["epsilon"]
        assert searched.plan == plan
    elif searched.path:  # what failed is what is shown
        assert certificate == searched.certificates[0]
        assert not certificate.holds
        assert searched.path[0].plan == plan
    else:
        assert plan.is_empty
    drop = Certificate.from_json(results["certificate_drop"])
    assert drop.label_free
    assert drop.bound == certificate.bound
    hashes = {split["data_hash"] for split in results["data"].values()}
    assert len(hashes) == 4
    reported = Comparison.from_json(results["comparison_test"])
    assert reported.accuracy_skipped.value == results["accuracy_skipped"]["value"]
    assert reported.data_hash == results["data"]["test"]["data_hash"]
    assert 0 < results["flops_ratio"] <= 1
    assert results["latency_ratio"] > 0
    profile, null = (Profile.from_json(results[key]) for key in ("profile", "profile_null"))
    assert profile.n_layers == null.n_layers == 30
    modes = {c["plan"]["mode"] for c in results["sweep"]}
    assert modes == {"block", "freeze", "early_exit", "late_entry"}
