"""The version of docs/protocol.md that the code names is the one in the repository."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from vlm_bridge.experiments.claims import ClaimsSettings, protocol
from vlm_bridge.experiments.claims.protocol import fatal_layers, third

ROOT = Path(__file__).resolve().parents[2]
TEXT = ROOT / "docs" / "protocol.md"


def test_the_text_is_the_registered_one() -> None:
    found = hashlib.sha256(TEXT.read_bytes()).hexdigest()
    assert found == protocol.SHA256, (
        "docs/protocol.md changed: set COMMIT and SHA256 of protocol.py"
    )


def test_the_commit_is_the_last_one_of_the_text() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    shallow = subprocess.run(
        ["git", "rev-parse", "--is-shallow-repository"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    if shallow.stdout.strip() == "true":
        pytest.skip("a shallow checkout does not know the commit")
    log = subprocess.run(
        ["git", "log", "-1", "--format=%H", "--", "docs/protocol.md"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert log.stdout.strip() == protocol.COMMIT


def test_every_clause_of_the_text_is_tested_and_no_other() -> None:
    named = set(re.findall(r"^\| (V\d-[a-z]+) \|", TEXT.read_text(), flags=re.MULTILINE))
    assert named == {clause.partition("/")[0] for clause in protocol.CLAUSES}


def test_the_defaults_are_the_registered_sizes() -> None:
    s, text = ClaimsSettings(), TEXT.read_text()
    assert s.sizes == {"profiling": 40, "tuning": 100, "certification": 410, "test": 410}
    registered = (s.ranked, s.null_images, s.draws, s.pairs, s.samples, s.resamples)
    assert registered == (200, 60, 20, 31, 9_999, 200)
    assert (s.epsilon, s.delta, s.max_new_tokens) == (0.05, 0.05, 16)
    for words in ("40 for profiling, 100 for tuning, 410 for certification, 410 for the test",
                  "B = 9,999", "31 pairs", "20 random plans", "up to 16 tokens"):  # fmt: skip
        assert words in " ".join(text.split())


@pytest.mark.parametrize("n_layers", range(1, 40))
def test_thirds_hold_no_fatal_layer_and_are_the_ends(n_layers: int) -> None:
    fatal = set(fatal_layers(n_layers))
    assert {0, n_layers - 1} <= fatal
    assert fatal <= set(range(n_layers))
    early, late = (set(third(n_layers, last=last)) for last in (False, True))
    size = round(n_layers / 3)
    assert early == set(range(size)) - fatal
    assert late == set(range(n_layers - size, n_layers)) - fatal
