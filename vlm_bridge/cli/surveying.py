"""`skipit survey`: everything about one stack of one model, by one command."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from typer import Option

from vlm_bridge.cli.options import (
    DataOptions,
    Delta,
    Epsilon,
    LedgerOptions,
    MaxNewTokens,
    ModelOptions,
    StackName,
)
from vlm_bridge.cli.output import say
from vlm_bridge.cli.quoted import sources
from vlm_bridge.evaluate.answers import MAX_NEW_TOKENS
from vlm_bridge.experiments.survey import SurveyData, write_survey
from vlm_bridge.experiments.survey import survey as run_survey
from vlm_bridge.experiments.survey.run import SURVEYED
from vlm_bridge.plan.stacks import DECODER
from vlm_bridge.runtime.distributed import is_main
from vlm_bridge.runtime.files import check_writable


@dataclass(frozen=True)
class RolesOptions:
    """The other questions of a survey."""

    section: ClassVar[str] = "Other questions, as --data"
    certification: Annotated[str, Option(help="They certify a plan (default: none does).")] = ""
    test: Annotated[
        str, Option(help="On them the full model and the plan are judged (default: --data).")
    ] = ""
    training: Annotated[str, Option(help="They give the blind baseline (default: none).")] = ""
    certification_limit: Annotated[
        int | None, Option(min=1, help="First images that certify (default: all).")
    ] = None
    test_limit: Annotated[
        int | None, Option(min=1, help="First images to test on (default: all).")
    ] = None

    def names(self, data: str) -> dict[str, str]:
        """Role -> name of its questions, of those that are given."""
        roles = {"data": data, "certification": self.certification, "test": self.test}
        roles["training"] = self.training
        return {role: name for role, name in roles.items() if name}

    def read(self, data: DataOptions) -> SurveyData:
        """The questions of all roles."""
        limits = {"certification": self.certification_limit, "test": self.test_limit}

        def items(role: str, name: str) -> Any:
            if role == "data":
                return data.items()
            per_image = None if role == "training" else data.per_image
            return replace(data, data=name, limit=limits.get(role), per_image=per_image).items()

        return SurveyData(
            **{role: items(role, name) for role, name in self.names(data.data).items()}
        )


def survey(
    model: ModelOptions,
    data: DataOptions,
    roles: RolesOptions,
    spending: LedgerOptions,
    stack: StackName = DECODER,
    mode: Annotated[
        list[str] | None,
        Option(help=f"Repeatable: {', '.join(SURVEYED)} (default: all that the stack has)."),
    ] = None,
    step: Annotated[int, Option(min=1, help="Step between layers and depths.")] = 1,
    epsilon: Epsilon = 0.05,
    delta: Delta = 0.05,
    max_new_tokens: MaxNewTokens = MAX_NEW_TOKENS,
    random_units: Annotated[
        int, Option(min=0, help="Images that a copy with random weights is asked; 0: none.")
    ] = 16,
    out: Annotated[Path, Option(help="Folder of page, record and checkpoints.")] = Path(
        "out/survey"
    ),
) -> Any:
    """Survey a model: quality, harm of single skips, a certified plan. Resumable.

    Judges the full model on --test beside a copy with random weights and the blind baseline; tries
    every single skip on --data by whole answers, beside distances, VAR, slopes and (of texts) the
    share of next tokens that stay; searches the largest plan that --certification certifies among
    single skips and unions of the least harmful, and measures its cost beside random plans of its
    size. If the decoder holds image, video or audio tokens, text is kept from them in one band of
    layers after another, as a causal check (`skipit controls`). Writes survey.md,
    survey.json and figures. Transcripts (question "what is said?") are scored by word error rate.

    Example: `skipit survey whisper-tiny.en --stack audio --data spoken-prompts:tuning`
    """
    check_writable(out / "survey.json")
    given, ledger = roles.read(data), spending.beside(out)
    vlm = model.load()
    names = roles.names(data.data)
    result = run_survey(
        vlm,
        given,
        folder=out / "checkpoints",
        names=names,
        sources=sources(),
        stack=stack,
        modes=mode or SURVEYED,
        step=step,
        epsilon=epsilon,
        delta=delta,
        max_new_tokens=max_new_tokens,
        batch_size=data.batch_size,
        random_units=random_units,
        ledger=ledger,
    )
    if is_main():
        for line in write_survey(result, out):
            say(line)
    say(f"survey: {out}/survey.md, {out}/survey.json")
    return result.to_json()
