"""The benchmark of the streaming profile runs, and its accumulators see all rows."""

from __future__ import annotations

import json

import numpy as np

from benchmarks import profile
from estimators import linear_cka


def test_a_short_run_reports_what_it_measured(tmp_path, capsys):
    few = ["--rows", "300", "--width", "8", "--block", "128", "--out", str(tmp_path), "--json"]
    profile.main(few)
    body = json.loads(capsys.readouterr().out)
    assert body["rows"] == json.loads((tmp_path / "profile.json").read_text())["rows"]
    assert [row["rows"] for row in body["rows"]] == [300] * 4
    blocks = [profile.block(n, 8, start) for start, n in ((0, 128), (128, 128), (256, 44))]
    x, y, ids = (np.concatenate(part) for part in zip(*blocks, strict=True))
    assert body["rows"][2]["found"] == str(linear_cka(x, y, clusters=ids))
    assert body["rows"][3]["seconds"] >= body["rows"][2]["seconds"]
    held = body["rows"][1]["held_MB"]
    assert held <= 8 * (8 * 8 + 6 * 8 + 4) / 1e6 + 0.005
