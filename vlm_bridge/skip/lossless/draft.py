"""The draft: the same model without the parts that a plan skips for every token."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.layer_op import Operation
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.stacks import DECODER
from vlm_bridge.skip.eager import eager
from vlm_bridge.skip.fast import fast_forwards
from vlm_bridge.skip.patching import Forward, check_not_replaced, forward_of, patched
from vlm_bridge.skip.tracker import PassTracker

#: Makes a block in which the passes of this thread skip.
Drafting = Callable[[], contextlib.AbstractContextManager[None]]

_changing = threading.Lock()
_turns: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()


class _Thread(threading.local):
    """Whether a thread drafts at present."""

    def __init__(self) -> None:
        self.drafts = False


def text_operations(plan: SkipPlan) -> tuple[Operation, ...]:
    """What a plan skips of every decoder layer for text, and so of a decoding pass.

    What it skips for modality tokens alone is in the prompt, and an encoder runs on the prompt.

    Example:
        >>> plan = SkipPlan.compose(SkipPlan("early_exit", 3, exit=1), SkipPlan("block", 3, (0,)))
        >>> [operation.bypass for operation in text_operations(plan)]
        [True, False, False]
    """
    decoder = plan.by_stack.get(DECODER)
    operations = () if decoder is None else decoder.operations
    return tuple(Operation(bypass=o.bypass, attention=o.attention, mlp=o.mlp) for o in operations)


def saves_in_decoding(plan: SkipPlan) -> bool:
    """Whether a draft by `plan` leaves something out of a decoding pass.

    Example:
        >>> saves_in_decoding(SkipPlan("freeze", 4, layers=(1, 2)))
        False
    """
    return any(operation != Operation() for operation in text_operations(plan))


@contextlib.contextmanager
def drafts_of(vlm: VLM, plan: SkipPlan) -> Iterator[Drafting]:
    """Make `vlm` its own draft; inside the block that is yielded a thread skips, others do not.

    Draft and full model share a cache: a skipped layer holds its place in it with zeros. One
    thread has a model as a draft at a time, others wait for their turn.
    """
    thread, tracker = _Thread(), PassTracker(vlm.layout)

    @contextlib.contextmanager
    def drafting() -> Iterator[None]:
        thread.drafts = True
        try:
            yield
        finally:
            thread.drafts = False

    with _turn(vlm), vlm.whole(), eager, contextlib.ExitStack() as stack:
        for index, operation in enumerate(text_operations(plan)):
            layer = vlm.layout.layers[index]
            for module, forward in fast_forwards(index, layer, operation, tracker):
                if module in (layer, *layer.children()):
                    check_not_replaced(module, f"layer {index}")
                either = _either(thread, forward_of(module), forward)
                stack.enter_context(patched(module, either))
        yield drafting


def _either(thread: _Thread, full: Forward, skipped: Forward) -> Forward:
    def run(*args: Any, **kwargs: Any) -> Any:
        return (skipped if thread.drafts else full)(*args, **kwargs)

    return run


@contextlib.contextmanager
def _turn(vlm: VLM) -> Iterator[None]:
    with _changing:
        turn = _turns.setdefault(vlm.layout.decoder, threading.RLock())
    with turn:
        yield
