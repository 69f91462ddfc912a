"""`docs/families.md` says what a run over the classes of the installed transformers says."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers

from benchmarks import families
from tests.vlm_bridge.families.every import MULTIMODAL
from tests.vlm_bridge.families.verdicts import Verdict, judge
from vlm_bridge.figures.markdown import row
from vlm_bridge.plan.modes import MODES

PAGE = Path("docs/families.md")
#: Of every outcome some.
SAMPLE = ["llava", "qwen3_5", "mllama", "glm5_next", "florence2", "evolla"]


def lines() -> list[str]:
    return PAGE.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("kind", SAMPLE)
def test_rows_of_the_page(kind):
    """Without running the model: its modes and reasons."""
    verdict, page = judge(kind, runs=False), lines()
    found = [line for line in page if line.startswith(f"| {kind} |")]
    assert len(found) == 1
    if verdict.outcome == "works":
        assert (
            found[0].rpartition(" | ")[0] == row(families.works_row(verdict)).rpartition(" | ")[0]
        )
        assert set(families.reasons(verdict)) <= set(page)
    elif verdict.outcome == "refused":
        assert found[0] == row(families.refused_row(verdict))
    else:
        assert found[0] == row((kind, verdict.reason))


def test_a_class_that_runs_is_said_to_run():
    assert row(families.works_row(judge("llava"))) in lines()


def test_every_model_type_has_one_row():
    rows = [line.split(" | ")[0].removeprefix("| ") for line in lines() if line.startswith("| ")]
    assert sorted(kind for kind in rows if kind != "model type") == MULTIMODAL


def test_counts_and_version():
    text = "\n".join(lines())
    assert f"transformers {transformers.__version__}" in text
    assert f"about the {len(MULTIMODAL)} model types" in text
    start = text.index("## Classes that work")
    refused, rest = text.index("## Classes that are refused"), text.index("## Classes that could")
    for part, words in (
        (text[start:refused], "work**"),
        (text[refused:rest], "are refused by name**"),
        (text[rest:], "could not be built**"),
    ):
        count = sum(line.startswith("| ") for line in part.splitlines()) - 1
        assert f"**{count} {words}" in text


def test_what_is_wrong_ends_the_command(monkeypatch, capsys):
    monkeypatch.setattr(families, "judged", lambda kinds: [Verdict("llava", "L", "wrong", "no")])
    with pytest.raises(SystemExit, match="wrong: llava"):
        families.main(["--only", "llava"])
    assert "wrong" in capsys.readouterr().out


def test_an_unknown_model_type(capsys):
    with pytest.raises(SystemExit):
        families.main(["--only", "gpt2"])
    assert "no multimodal class of the type gpt2" in capsys.readouterr().err


def test_reasons_are_joined_by_their_words():
    reason = "layer 0 can only be skipped whole; {} is possible in layer 3"
    verdict = Verdict(
        "k", "K", "works", modes={m: "" if m == "block" else reason.format(m) for m in MODES}
    )
    others = ", ".join(mode for mode in MODES if mode != "block")
    assert families.reasons(verdict) == [
        f"- `k` {others}: layer 0 can only be skipped whole; the mode is possible in layer 3."
    ]


@pytest.mark.slow
def test_the_page_is_up_to_date():
    page = families.page(families.judged(MULTIMODAL))
    assert page == PAGE.read_text(encoding="utf-8"), f"run {families.COMMAND}"
