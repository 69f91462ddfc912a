"""`skipit run`: the whole path on one model, by one command."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer
from typer import Option

from estimators import Profile
from theory import Certificate
from vlm_bridge.cli.apart import check_images
from vlm_bridge.cli.as_json import CheckFailed
from vlm_bridge.cli.config import Config, written_config
from vlm_bridge.cli.options import (
    Check,
    Delta,
    Epsilon,
    LedgerOptions,
    MaxNewTokens,
    ModelOptions,
    Pairs,
    Tokens,
)
from vlm_bridge.cli.output import say
from vlm_bridge.cli.planning import RuleName
from vlm_bridge.cli.run_next import next_commands
from vlm_bridge.cli.run_steps import Loaded, Settings, Steps
from vlm_bridge.cli.searching import SCORES, RuleModes
from vlm_bridge.cost import Cost
from vlm_bridge.data import TASKS, Item, limit_per_image
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS
from vlm_bridge.evaluate.compare import Comparison
from vlm_bridge.evaluate.compare import check_images as check_count
from vlm_bridge.evaluate.compare_answers import AnswerComparison
from vlm_bridge.evaluate.scorers import find_scorers
from vlm_bridge.evaluate.spending import reach_of_search
from vlm_bridge.experiments.dealing import SPLITS, Source, deal, read_places
from vlm_bridge.experiments.whole_path import Outlook, WholePath, outlook_of, write_page
from vlm_bridge.experiments.whole_path.work import work_of
from vlm_bridge.model.vlm import VLM
from vlm_bridge.rules import check_mode, find_rule
from vlm_bridge.rules.scores import RuleScores
from vlm_bridge.runtime.distributed import is_main
from vlm_bridge.runtime.files import (
    check_writable,
    read_json,
    read_record,
    write_bytes,
    write_record,
)
from vlm_bridge.runtime.machine import command_line
from vlm_bridge.selection import CertifiedPlan

CONFIG, RECORD = "run.toml", "run.json"
_Size = Annotated[
    int | None,
    Option(min=1, help="Images of this split (default: all of its part; of one file its share)."),
]


@dataclass(frozen=True)
class RunData:
    """Where the questions come from, and how they are split."""

    section: ClassVar[str] = "Data options"
    data: Annotated[
        str,
        Option(
            help="JSONL file, whose images are dealt to the splits in a random order (a tenth, two "
            "tenths, four tenths, three tenths); folder of profile.jsonl, tuning.jsonl, "
            f"certification.jsonl, test.jsonl; or one of {', '.join(TASKS)}."
        ),
    ]
    images: Annotated[
        Path | None, Option(help="Folder of images and recordings (default: the file's).")
    ] = None
    per_image: Annotated[
        int | None, Option(min=1, help="Questions per image, at most (default: all).")
    ] = None
    profiling: _Size = None
    tuning: _Size = None
    certification: _Size = None
    test: _Size = None
    at: Annotated[
        list[str] | None,
        Option(
            metavar="SPLIT=PART:FIRST",
            help="Repeatable, of a task set or folder: where a split begins (test=test:400).",
        ),
    ] = None
    batch_size: Annotated[int, Option(min=1, help="Questions in a batch.")] = 16

    def splits(self, seed: int) -> dict[str, list[Item]]:
        """Split -> questions, of which no image is in two."""
        sizes = {name: getattr(self, name) for name in SPLITS}
        source, places = Source(self.data, self.images), read_places(self.at or [])
        dealt = deal(source, sizes, places, seed=seed)
        for items in dealt.values():
            check_images(items)
        if self.per_image is None:
            return dealt
        return {name: limit_per_image(items, self.per_image) for name, items in dealt.items()}


def run(
    context: typer.Context,
    model: ModelOptions,
    data: RunData,
    spending: LedgerOptions,
    config: Config = None,
    rule: RuleName = "skip-it",
    mode: RuleModes = None,
    epsilon: Epsilon = 0.05,
    delta: Delta = 0.05,
    scorer: Annotated[
        list[str] | None,
        Option(help="Repeatable: a score of the answers (`skipit scorers`; default: exact)."),
    ] = None,
    max_new_tokens: MaxNewTokens = MAX_NEW_TOKENS,
    null: Annotated[bool, Option(help="Profile a copy with random weights too.")] = True,
    pairs: Pairs = 15,
    tokens: Tokens = 8,
    seed: Annotated[int, Option(min=0, help="Of the order of the images of one file.")] = 0,
    check: Check = False,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Say what can be certified and how long it takes, and stop.")
    ] = False,
    out: Annotated[Path, Option(help="Folder of all results.")] = Path("out/run"),
) -> Any:
    """Run the whole path: profile, rule, search, certificate, test, cost, page. Resumable.

    First prints the splits, the smallest epsilon that they can certify, with which probability a
    good plan is certified, and about how long it takes. If epsilon is out of reach it stops there
    and says which epsilon, or how many images, would do.

    Then `profile`, `search` (which scores the layers by the rule, chooses plans on tuning images
    and certifies one on certification images), `compare` and `cost` (one prompt at a time) run on
    splits that share no image. Their files are in OUT, as these commands write them: profile.json,
    scores.json, search.json, plan.json, certificates.json, comparison.json, answers.jsonl,
    cost.json, and the questions of each split in splits/. report.html shows all, run.json holds it
    for `skipit report`, run.toml has the options of the run.

    The certificate of the accuracy drop follows from that of the disagreement, so both hold at once
    and no more delta is spent. A killed run continues when the same command is given again.

    Example: `skipit run reference --data easy-vqa --certification 400 --test 100 --dry-run`

    Example: `skipit run llava-hf/llava-1.5-7b-hf --data mine.jsonl --rule skip-it-slopes
    --mode freeze --mode block --scorer anls --device cuda --out out/mine`

    Example: `skipit run --config run.toml --out out/again`
    """
    chosen = find_rule(rule)
    for named in mode or ():
        check_mode(chosen, named, "")
    scorers = find_scorers(scorer or ["exact"])
    ledger = spending.beside(out)
    splits = data.splits(seed)
    check_count(splits["test"])
    for score in scorers:
        score.of(splits["test"])  # refuses what it cannot score before any answer
    outlook = outlook_of(splits, epsilon=epsilon, delta=delta)
    if not outlook.reach.possible:
        _say_all(outlook)
        outlook.check()
    text = "" if dry_run else _check_folder(context, config, out)
    vlm = model.load()
    sizes: Any = {"batch_size": data.batch_size, "max_new_tokens": max_new_tokens}
    effort = work_of(vlm, splits, chosen, mode or [None], null=null, pairs=pairs, **sizes)
    outlook = outlook.timed(effort)
    _say_all(outlook)
    level: Any = {"epsilon": epsilon, "delta": delta}
    left, as_wanted = reach_of_search(ledger, vlm, splits["certification"], **level)
    if not as_wanted:
        say(left)
    if dry_run:
        return outlook.to_json()
    settings = Settings(
        rule=rule,
        mode=tuple(mode or ()),
        scorer=tuple(scorer or ()),
        null=null,
        pairs=pairs,
        tokens=tokens,
        seed=seed,
        **level,
        **sizes,
    )
    result = WholePath(vlm.name, vlm.fingerprint, command_line(), vlm.layout.modality, outlook)
    steps = _steps(out, model, vlm, splits, settings, spending, outlook)
    if is_main():
        write_record(out / RECORD, result)
        write_bytes(out / CONFIG, text.encode())
    for _ in steps.all():
        pass
    return _finish(steps, result, model, out, check)


def _steps(
    out: Path,
    model: ModelOptions,
    vlm: VLM,
    splits: dict[str, list[Item]],
    settings: Settings,
    spending: LedgerOptions,
    outlook: Outlook,
) -> Steps:
    """The steps of this run, of which those that were finished are known."""
    key = {
        "kind": "run",
        "model": vlm.name,
        "fingerprint": vlm.fingerprint,
        **{f"{name} questions": size.data_hash for name, size in outlook.splits.items()},
        **{name: list(v) if isinstance(v, tuple) else v for name, v in asdict(settings).items()},
    }
    values = {field.name: getattr(model, field.name) for field in fields(ModelOptions)}
    return Steps(out, Loaded(**values, vlm=vlm), splits, settings, spending, key)


def _finish(steps: Steps, begun: WholePath, model: ModelOptions, out: Path, check: bool) -> Any:
    """Write record and page, and say what was found, where it is, and how to go on."""
    if not is_main():
        return None
    result = _collected(begun, out)
    write_record(out / RECORD, result)
    page = write_page(result, out)
    say(result.headline())
    for path in (*steps.written(), out / CONFIG, out / RECORD, page):
        say(f"  {path}")
    found = steps.found()
    say("to go on:")
    plan = None if found.certificate is None else found.plan
    sizes = {"max_new_tokens": steps.set.max_new_tokens, "batch_size": steps.set.batch_size}
    for command in next_commands(model, plan, out, steps.images, sizes):
        say(f"  {command}")
    if check and plan is None:
        raise CheckFailed(result.to_json())
    return result.to_json()


def _collected(begun: WholePath, out: Path) -> WholePath:
    """The files of all steps, in one record."""
    found: dict[str, Any] = {
        "profile": read_record(out / "profile.json", Profile, "profile"),
        "scores": read_record(out / SCORES, RuleScores, "score of a rule"),
        "search": read_record(out / "search.json", CertifiedPlan, "search"),
    }
    null = out / "profile-null.json"
    if null.is_file():
        found["profile_null"] = read_record(null, Profile, "profile")
    if found["search"].certificate is not None:
        made = read_json(out / "certificates.json", "certificates")
        compared = read_json(out / "comparison.json", "comparison")
        measured = read_json(out / "cost.json", "cost")
        found |= {
            "certificates": tuple(Certificate.from_json(one) for one in made),
            "comparison": Comparison.from_json(compared["comparison"]),
            "answers": AnswerComparison.from_json(compared["answers"]),
            "cost": Cost.from_json(measured["cost"]),
        }
    return replace(begun, **found)


def _check_folder(context: typer.Context, config: Path | None, out: Path) -> str:
    """The text of the configuration, if it may be written into `out`."""
    text, file = written_config(context), check_writable(out / CONFIG)
    if not file.is_file():
        return text
    if config is not None and file.samefile(config):
        if file.read_text("utf-8") != text:
            raise BridgeError(
                f"--config names {file}, which the options of this command would change; name "
                "another --out, or copy the file"
            )
    elif not (out / RECORD).is_file():
        raise BridgeError(f"--out would replace {file}, which is of no earlier run; name another")
    return text


def _say_all(outlook: Outlook) -> None:
    for line in outlook.lines():
        say(line)
