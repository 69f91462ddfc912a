"""A model with a plan for lmms-eval, which loads this module by an entry point as `skipit`."""

from __future__ import annotations

from typing import Any, NoReturn

from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from PIL import Image

from vlm_bridge.data import Item, link_units
from vlm_bridge.errors import BridgeError, got
from vlm_bridge.evaluate.answers import answer
from vlm_bridge.harness.lmms_rules import check_greedy, check_hash, cut
from vlm_bridge.harness.planned_model import PlannedModel

#: Tokens of an answer where a task names no number, as in lmms-eval's own models.
MAX_NEW_TOKENS = 1024


class SkippedLmms(lmms):
    """A vision-language model under a plan, answering greedily.

    Args:
        pretrained: a name that `vlm_bridge.load` takes.
        plan: words such as "freeze 2-11", or the path of a plan file; none for the full model.
        plan_hash: the first 12 letters of the plan's hash or more. Results and the response cache
            of lmms-eval know a run by its arguments alone, so that a plan file wants it.
        batch_size: questions in a batch.
        max_batch_size: passed by lmms-eval, not used.
        loading: options of `vlm_bridge.load`.

    Raises:
        BridgeError: as `PlannedModel.of`; a plan file without its hash, or a hash of another plan.
    """

    def __init__(
        self,
        pretrained: str,
        plan: str | None = None,
        plan_hash: str | None = None,
        batch_size: int | str = 16,
        max_batch_size: int | None = None,
        **loading: Any,
    ) -> None:
        super().__init__()
        self.planned = PlannedModel.of(pretrained, plan, **loading)
        check_hash(self.planned, plan, plan_hash)
        self.batch_size = int(batch_size)

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Greedy answers, cut where the task says."""
        asked = [self._asked(request.args) for request in requests]
        answers = [""] * len(requests)
        with self.planned.running():
            for length in sorted({limit for _, limit, _ in asked}):
                places = [place for place, (_, limit, _) in enumerate(asked) if limit == length]
                items = link_units([asked[place][0] for place in places])
                texts = answer(
                    self.planned.vlm, items, batch_size=self.batch_size, max_new_tokens=length
                )
                for place, text in zip(places, texts, strict=True):
                    answers[place] = cut(text, asked[place][2])
        return answers

    def _asked(self, args: tuple[Any, ...]) -> tuple[Item, int, list[str]]:
        """The question of a request, the length of its answer, and what ends it."""
        context, options, to_visual, place, task, split = args
        seen = to_visual(self.task_dict[task][split][place]) or []
        if other := [one for one in seen if not isinstance(one, Image.Image)]:
            raise BridgeError(f"{task} shows {got(other[0])}; this model takes images alone")
        check_greedy(task, options)
        until = options.get("until") or []
        stops = [until] if isinstance(until, str) else list(until)
        item = Item.of(*(one.convert("RGB") for one in seen), context)
        return item, int(options.get("max_new_tokens", MAX_NEW_TOKENS)), stops

    def loglikelihood(self, requests: list[Instance]) -> NoReturn:
        """Refused: what lmms-eval's own models give here is a loss.

        Raises:
            BridgeError: always.
        """
        raise BridgeError(
            "multiple choice by likelihood is run with the lm-evaluation-harness: "
            "python -m vlm_bridge.harness run --model skipit"
        )

    def generate_until_multi_round(self, requests: list[Instance]) -> NoReturn:
        """Refused.

        Raises:
            BridgeError: always.
        """
        raise BridgeError("tasks of several rounds are not supported; choose another task")
