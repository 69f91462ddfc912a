"""Surveys of models of others: quality, answers changed by every skip, certified plans.

    python -m benchmarks.third_party --out out/third-party

Runs `skipit survey` for every model and stack, one after another; each resumes, and one whose
record is in --out is not run again. Writes the page docs/results/third-party.md, and the records
beside it; surveys that `--only` leaves out are named there.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import _help
from estimators import Estimate
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.experiments.survey import Survey
from vlm_bridge.experiments.survey.blocks import blocks_of, harm, with_doubt
from vlm_bridge.figures.blocks import to_markdown
from vlm_bridge.figures.markdown import table
from vlm_bridge.figures.numbers import ranged
from vlm_bridge.plan.stacks import STACKS
from vlm_bridge.runtime.files import read_record, write_bytes, write_record

_SPEECH = (
    "--data spoken-prompts:tuning --certification spoken-prompts:certification "
    "--test spoken-prompts:test --training spoken-prompts:train --batch-size 8"
)
#: The first search, on 300 photos of `certification`, ended at its first plan, which was too large.
#: Smaller ones are tested before it now, on photos that no search has seen: those of `profile`.
_PHOTOS = (
    "--data fashion-photos:tuning --certification fashion-photos:profile "
    "--test fashion-photos:test --training fashion-photos:train --per-image 1 "
    "--limit 40 --test-limit 400 --max-new-tokens 8"
)
_TEXTS = (
    "--data python-docs:tuning --certification python-docs:certification "
    "--test python-docs:test --limit 24 --max-new-tokens 32"
)
#: Name of a survey -> model, stack, and the other arguments of `skipit survey`.
SURVEYS = {
    "whisper-tiny.en-decoder": ("whisper-tiny.en", "decoder", _SPEECH),
    "whisper-tiny.en-encoder": ("whisper-tiny.en", "audio", _SPEECH),
    "whisper-base-decoder": ("whisper-base", "decoder", _SPEECH),
    "whisper-base-encoder": ("whisper-base", "audio", _SPEECH),
    "smollm2-135m": ("smollm2-135m", "decoder", _TEXTS),
    "photos-smollm2": ("photos-smollm2", "decoder", _PHOTOS),
}


@dataclass(frozen=True)
class Done:
    """A finished survey and the command that made it."""

    name: str
    command: str
    result: Survey


def arguments(name: str, out: Path) -> list[str]:
    """The arguments of `skipit` for a survey of `SURVEYS`.

    Example:
        >>> arguments("smollm2-135m", Path("out"))[:4]
        ['survey', 'smollm2-135m', '--stack', 'decoder']
    """
    model, stack, rest = SURVEYS[name]
    return ["survey", model, "--stack", stack, *rest.split(), "--out", str(out / name)]


def run(name: str, out: Path) -> Done:
    """Run a survey, unless its record is there."""
    words = arguments(name, out)
    command, record = shlex.join(["skipit", *words]), out / name / "survey.json"
    if not record.is_file():
        print(f"$ {command}", flush=True)
        subprocess.run([sys.executable, "-m", "vlm_bridge", *words], check=True)
    return Done(name, command, read_record(record, Survey, "survey"))


def page(done: Sequence[Done]) -> list[str]:
    """The lines of the page: a table of all surveys, then each of them."""
    lines = [
        "# Models of others",
        "",
        "Nobody here trained Whisper or SmolLM2; of photos-smollm2 one linear layer was trained "
        "here. Made by `python -m benchmarks.third_party`. An answer is the whole greedy answer "
        "up to the length named. `data` chose, `certification` certified, `test` is reported on; "
        "no unit is in two of them. speech-smollm2 is not here: a model that may be right in fewer "
        "than 70 % of its answers enters no verdict (README). The certified plan of photos-smollm2 "
        "is a second attempt: a first search, on 300 other photos, ended at its first plan, which "
        "was too large.",
        "",
        *table(
            ["model", "stack", "full model", "guess", "random weights",
             "block that changes fewest answers", "largest certified plan",
             "prefill latency, skipped/full"],
            [_row(each.result) for each in done],
        ),
    ]  # fmt: skip
    if left := [name for name in SURVEYS if name not in {each.name for each in done}]:
        lines += ["", f"Not run for this page: {', '.join(left)}."]
    for each in done:
        lines += ["", *to_markdown(blocks_of(each.result), heading="##"), "", f"`{each.command}`"]
        lines += [_machine(each.result)]
    return lines


def _row(result: Survey) -> list[str]:
    blocks = harm(result, "block")
    layer, least = min(blocks.items(), key=lambda pair: pair[1].disagreement.value)
    plan, cost = result.certified, result.cost
    return [
        result.model,
        STACKS[result.stack],
        _score(result.full.word_errors, result.full.accuracy),
        "-" if result.blind is None else with_doubt(result.blind),
        "-" if result.random is None else _score(result.random.word_errors, result.random.accuracy),
        _changed(layer, least),
        "none" if plan is None else plan.describe(result.modality),
        "-" if cost is None else ranged(cost.prefill.latency_ratio, ".2f"),
    ]


def _score(word_errors: Estimate | None, accuracy: Estimate | None) -> str:
    if word_errors is not None:
        return f"word errors {with_doubt(word_errors)}"
    return "no labels" if accuracy is None else f"accuracy {with_doubt(accuracy)}"


def _changed(layer: int, least: Comparison) -> str:
    return f"layer {layer}: {ranged(least.disagreement)} of answers changed"


def _machine(result: Survey) -> str:
    ran = result.machine
    where = f"{ran['device']}, threads: {ran['threads']}, Python {ran['python']}, torch "
    return (
        f"\nRun on {where}{ran['torch']}, transformers {ran['transformers']}, in "
        f"{result.seconds:.0f} s (resumed: of the last run alone); fingerprint of the model "
        f"`{result.fingerprint[:12]}`."
    )


def main() -> None:
    """Run the surveys and write the page."""
    parser = _help.parser("third_party", __doc__ or "")
    parser.add_argument(
        "--out", type=Path, default=Path("out/third-party"), help="folder of the surveys"
    )
    parser.add_argument(
        "--page",
        type=Path,
        default=Path("docs/results/third-party.md"),
        help="page to write; the records lie beside it",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(SURVEYS),
        default=list(SURVEYS),
        help="surveys to run (default: all)",
        metavar="NAME",
    )
    chosen = parser.parse_args()
    try:
        done = [run(name, chosen.out) for name in chosen.only]
    except (BridgeError, subprocess.CalledProcessError) as error:
        sys.exit(f"third_party: {error}")
    write_bytes(chosen.page, "\n".join([*page(done), ""]).encode())
    records = chosen.page.with_suffix("")
    records.mkdir(exist_ok=True)
    for each in done:
        write_record(records / f"{each.name}.json", each.result)
    print(json.dumps({"page": str(chosen.page), "surveys": [each.name for each in done]}))


if __name__ == "__main__":
    main()
