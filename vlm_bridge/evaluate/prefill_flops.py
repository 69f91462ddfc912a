"""FLOPs of prefills, counted once for every plan: what any chain of them costs follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from vlm_bridge.cost.flops import count_flops, flops_before
from vlm_bridge.data import Item
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate.shared_run import SharedRun, first_layer, reads_pixels, shared_depths
from vlm_bridge.model.prompts import check_takes, collate
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import Gate
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.skip.prefix import inputs_of_rows


@dataclass(frozen=True)
class OfQuestion:
    """FLOPs of the prefills of one question.

    Attributes:
        full: of the full model.
        saved: depth -> what a run saves that starts there: the encoders and the layers before. A
            run starts from scratch at depths that are not listed.
        alone: of each plan from scratch.
    """

    full: int
    saved: Mapping[int, int]
    alone: Mapping[SkipPlan, int]


@dataclass(frozen=True)
class PrefillFlops:
    """FLOPs of the prefills of some questions, each alone and so without padding.

    Attributes:
        questions: of each question.
        n_layers: layers of the decoder.
        firsts: the first layer that a plan touches, None if it touches an encoder.
    """

    questions: tuple[OfQuestion, ...]
    n_layers: int
    firsts: Mapping[SkipPlan, int | None]

    @classmethod
    def count(cls, vlm: VLM, items: Sequence[Item], plans: Iterable[SkipPlan]) -> PrefillFlops:
        """One counted pass of the full model and of each plan on every question.

        Encoders count, tokens behind the first of an answer do not.

        Raises:
            BridgeError: there are no items, or the model takes no images or recordings.
        """
        check_takes(vlm, items)
        if not items:
            raise BridgeError("there are no items on which to count FLOPs")
        plans = list(dict.fromkeys(plans))
        places = range(len(items))
        questions = tuple(
            _of_question(vlm, items, place, plans, warm=place > 0) for place in places
        )
        firsts = {plan: first_layer(vlm, plan) for plan in plans}
        return cls(questions, vlm.layout.n_layers, firsts)

    def costs(self, gates: Sequence[Gate]) -> tuple[float, ...]:
        """What each gate adds, and at last the full model, over the FLOPs of a full prefill.

            costs[g] = sum of FLOPs that gate g adds / sum of FLOPs of the full model

        Counted as if no answer stood: what a gate shares with those before it counts once, at the
        first of them, and a plan that has answered before costs nothing.
        """
        order: list[SkipPlan | None]
        order = [*dict.fromkeys(plan for gate in gates for plan in gate.plans), None]
        added: dict[SkipPlan | None, int] = dict.fromkeys(order, 0)
        for question in self.questions:
            for run, flops in zip(order, self._in_turn(question, order), strict=True):
                added[run] += flops
        whole = sum(question.full for question in self.questions)
        by_gate = []
        for gate in gates:
            by_gate.append(sum(added.pop(each, 0) for each in gate.plans) / whole)
        return (*by_gate, added[None] / whole)

    def _in_turn(self, question: OfQuestion, order: Sequence[SkipPlan | None]) -> list[int]:
        """FLOPs of runs one after another, as a `SharedRun` shares them."""
        firsts = [self.n_layers if run is None else self.firsts[run] for run in order]
        depths, known = shared_depths(firsts, self.n_layers), -1
        flops = []
        for run, first in zip(order, firsts, strict=True):
            start = None
            if first is not None and not reads_pixels(run):
                usable = depths & question.saved.keys()
                start = max((at for at in usable if at <= min(first, known)), default=None)
            alone = question.full if run is None else question.alone[run]
            flops.append(alone - (0 if start is None else question.saved[start]))
            known = known if first is None else max(known, first)
        return flops


def _of_question(
    vlm: VLM, items: Sequence[Item], place: int, plans: Sequence[SkipPlan], *, warm: bool
) -> OfQuestion:
    batch = collate(vlm, items, [place])
    layout = vlm.layout
    # The full model at the end makes the first run keep the keys of all layers that can be shared.
    run = SharedRun(vlm, batch, [None, *plans, None], max_new_tokens=1)
    watched = [layout.decoder, *layout.layers]
    full, (decoder, first, *others) = flops_before(partial(run.ask, None), watched)
    saved: dict[int, int] = {}
    for depth, before in enumerate((first, *others)):
        if decoder is None or first is None or before is None or depth > run.known_layers:
            break
        if inputs_of_rows(batch.inputs, [0], vlm, depth) is not None:
            saved[depth] = decoder + before - first
    alone = {}
    for plan in plans:
        if not warm:  # the first block of a plan may try its layers on noise
            SharedRun(vlm, batch, [plan], max_new_tokens=1).ask(plan)
        scratch = SharedRun(vlm, batch, [plan], max_new_tokens=1)
        alone[plan] = count_flops(partial(scratch.ask, plan))
    return OfQuestion(full, {} if layout.encoder_decoder else saved, alone)
