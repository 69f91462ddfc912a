"""Options that several commands share; a dataclass is a section of the help."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from typer import Argument, Option

from vlm_bridge.cli.apart import check_images, ledger_beside
from vlm_bridge.data import TASKS, Item, first_units, limit_per_image, read_jsonl
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.vlm import VLM, load
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.text import read_plan
from vlm_bridge.runtime.ledger import Ledger

#: Attention implementations that a command may ask for.
ATTENTION = ("sdpa", "eager", "flash_attention_2")
Epsilon = Annotated[float, Option(help="Share of answers that a plan may change, by image.")]
Delta = Annotated[float, Option(help="Probability that a certificate is wrong.")]
Model = Annotated[str, Argument(help="A reference model, a folder, or a Hugging Face id.")]
Remote = Annotated[bool, Option("--trust-remote-code", help="Run code that comes with the model.")]
Pairs = Annotated[int, Option(min=1, help="Timed pairs of full and skipped; an interval needs 6.")]
Tokens = Annotated[int, Option(help="Tokens to generate to time one token; 0: no measurement.")]
MaxNewTokens = Annotated[
    int, Option(min=1, help="Longest answer, in tokens; what would follow is not compared.")
]
Check = Annotated[bool, Option("--check", help="Exit with code 1 unless every certificate holds.")]
StackName = Annotated[
    str, Option(help="Stack of layers: decoder, or an encoder: vision, audio, encoder (of text).")
]
PlanWords = Annotated[
    str,
    Argument(
        metavar="PLAN",
        help="A plan file, or a plan in words: 'early_exit exit=20', 'block layers=3,5-7', "
        "'band entry=4 exit=20 + freeze layers=6-8', 'block layers=1 stack=vision', "
        "'sublayer attention=2 mlp=5-6', 'token_pruning after=2 keep=0.25 select=dart'.",
    ),
]


@dataclass(frozen=True)
class ModelOptions:
    """Which model, and where it runs."""

    section: ClassVar[str] = "Model options"
    model: Model
    dtype: Annotated[str, Option(help="float32, bfloat16 or float16.")] = "float32"
    device: Annotated[str | None, Option(help="A torch device, or 'auto' (default: CPU).")] = None
    attention: Annotated[
        str | None, Option(help=f"{', '.join(ATTENTION)} (default: the model's).")
    ] = None
    trust_remote_code: Remote = False

    def load(self) -> VLM:
        """Load the model."""
        if self.attention not in (None, *ATTENTION):
            raise BridgeError(
                f"unknown --attention '{self.attention}'; choose from {', '.join(ATTENTION)}"
            )
        return load(
            self.model,
            dtype=self.dtype,
            device=self.device,
            attention=self.attention,
            trust_remote_code=self.trust_remote_code,
        )

    def load_with(self, words: str) -> tuple[VLM, SkipPlan]:
        """Load the model, and read a plan for it; wrong words are refused before loading."""
        plan_at = read_plan(words)
        vlm = self.load()
        return vlm, plan_at(vlm.layout.depth)


@dataclass(frozen=True)
class LedgerOptions:
    """What earlier commands have spent on the images that certify."""

    section: ClassVar[str] = "Ledger options"
    ledger: Annotated[
        Path | None,
        Option(
            help="File of the images that certified something, and of the delta spent on them "
            "(default: ledger.jsonl beside OUT). A command on images that are in it gets the delta "
            "that is left, or is refused. The same command again costs nothing."
        ),
    ] = None
    ledger_delta: Annotated[
        float | None,
        Option(
            help="Delta to spend on the same images altogether: how often any certificate at all "
            "may be wrong. Fixed when the ledger is made (default: what its first command spends)."
        ),
    ] = None
    no_ledger: Annotated[
        bool,
        Option(
            "--no-ledger",
            help="Use none; the certificate then assumes that its images were not used before.",
        ),
    ] = False

    def beside(self, out: Path) -> Ledger | None:
        """The ledger that these options name, by default beside the result `out`."""
        if not self.no_ledger:
            return Ledger(self.ledger or ledger_beside(out), delta=self.ledger_delta)
        if self.ledger is not None or self.ledger_delta is not None:
            raise BridgeError("--no-ledger goes with neither --ledger nor --ledger-delta")
        return None


@dataclass(frozen=True)
class DataOptions:
    """Which questions, and how many at once."""

    section: ClassVar[str] = "Data options"
    data: Annotated[
        str,
        Option(
            help="JSONL of {image?, audio?, question, answer?, answers?, cluster?} or of another "
            "shape in docs/data.md, or NAME:SPLIT with NAME "
            f"one of {', '.join(TASKS)}, and SPLIT mostly one of profile, tuning, certification, "
            "test, train."
        ),
    ]
    images: Annotated[
        Path | None, Option(help="Folder of images and recordings (default: the file's).")
    ] = None
    per_image: Annotated[
        int | None, Option(min=1, help="Questions per image, at most (default: all).")
    ] = None
    limit: Annotated[
        int | None,
        Option(
            min=1, help="First images to use (default: all); `search` also cuts --certification."
        ),
    ] = None
    batch_size: Annotated[int, Option(min=1, help="Questions in a batch.")] = 16

    def items(self) -> list[Item]:
        """Read the questions; a command that would write over one of their images is refused."""
        items = read_items(self.data, images=self.images)
        check_images(items)
        if self.per_image is not None:
            items = limit_per_image(items, self.per_image)
        if self.limit is not None:
            items = first_units(items, self.limit)
        return items


def read_items(data: str, *, images: Path | None = None) -> list[Item]:
    """The questions of `NAME:SPLIT` or of a JSONL file."""
    name, _, split = data.partition(":")
    return TASKS[name](split) if name in TASKS else read_jsonl(data, images=images)
