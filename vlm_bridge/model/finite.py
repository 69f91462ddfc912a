"""Refuse a broken model: one whose states or logits are NaN or infinite."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from vlm_bridge.errors import BridgeError
from vlm_bridge.model.layout import TOKEN_GROUPS
from vlm_bridge.model.vlm import VLM

T = TypeVar("T")
#: Called with the name of a place in the model and its (batch, length, width) values there.
OnValues = Callable[[str, Tensor], None]

_ENDS = ("the states after the final norm", "the logits")


class BrokenModel(BridgeError):
    """The model computes NaN or infinite numbers; the message names the first place."""


def finite(
    vlm: VLM, inputs: Mapping[str, Tensor], run: Callable[[], T], *, names: Sequence[str] = ()
) -> T:
    """`run()`, refused if the model's states or logits become NaN or infinite in it.

    Every pass is checked at the states after the final norm, on all tokens but padding, and at the
    logits: a bad number in the residual stream stays there. After a bad pass `run` is repeated with
    a check after every layer, to name the first. No value is read from a device before `run` ends.

    Args:
        vlm: the model, perhaps inside `skipping`.
        inputs: of the model, with input_ids (batch, length) unless it is an encoder-decoder; `run`
            passes them first.
        run: calls the model; the same numbers each time.
        names: what each sequence is about, for the message.

    Raises:
        BrokenModel: naming layer, token group and sequence.
    """
    seen = _Seen(vlm, inputs)
    try:
        with _watching(vlm, seen.note, layers=False):
            result = run()
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        # Of what a hook computes from the states, such as a rank.
        pass
    except Exception:
        if not seen.is_broken:
            raise
    else:
        if not seen.is_broken:
            return result
    with _watching(vlm, partial(_refuse, vlm, seen, names), layers=True):
        run()
    raise BrokenModel(
        f"{vlm.name} is broken: it computed numbers that are not finite, and not when run again"
    )


class _Seen:
    """Whether any value was not finite, one flag per device, and the passes so far."""

    def __init__(self, vlm: VLM, inputs: Mapping[str, Tensor]) -> None:
        if vlm.layout.encoder_decoder:  # the passes are over tokens of the answer only
            self.codes = torch.zeros(len(next(iter(inputs.values()))), 0, dtype=torch.long)
        else:
            ids = inputs["input_ids"]
            self.codes = vlm.layout.token_groups(ids, inputs.get("attention_mask"))
        self.real = self.codes != TOKEN_GROUPS.index("pad")
        self._bad: dict[torch.device, Tensor] = {}

    def bad(self, values: Tensor) -> Tensor:
        """(batch, length) bool: tokens, padding excepted, with a value that is not finite."""
        bad = ~values.detach().isfinite().all(-1)
        return bad & self.real.to(bad.device) if bad.shape == self.real.shape else bad

    def note(self, _: str, values: Tensor) -> None:
        """Remember whether a value is not finite."""
        bad = self.bad(values).any()
        before = self._bad.get(bad.device)
        self._bad[bad.device] = bad if before is None else before | bad

    @property
    def is_broken(self) -> bool:
        """Whether any noted value was not finite."""
        return any(bool(bad) for bad in self._bad.values())


def _refuse(vlm: VLM, seen: _Seen, names: Sequence[str], place: str, values: Tensor) -> None:
    """Raise a `BrokenModel` if a value is not finite."""
    bad = seen.bad(values)
    if not bad.any():
        return
    kind = "NaN" if values.isnan().any() else "infinite"
    row = int(bad.any(1).nonzero()[0, 0])
    if bad.shape == seen.codes.shape and place != _ENDS[1]:
        codes = seen.codes.to(bad.device)[bad].unique().tolist()
        groups = " and ".join(TOKEN_GROUPS[code] for code in codes)
    else:
        groups = "answer"
    about = f" ({names[row]})" if names else ""
    raise BrokenModel(
        f"{vlm.name} is broken: {place} are {kind} at {groups} tokens, first in sequence "
        f"{row + 1} of a batch of {len(bad)}{about}; nothing that it answers can be trusted"
    )


@contextlib.contextmanager
def _watching(vlm: VLM, on_values: OnValues, *, layers: bool) -> Iterator[None]:
    """Call `on_values` with the ends of every pass and, if asked, the states of every layer."""

    def at_input(index: int, _: nn.Module, args: Any, kwargs: Any) -> None:
        name = (
            "the embedded tokens and images" if index == 0 else f"the states before layer {index}"
        )
        on_values(name, args[0] if args else kwargs["hidden_states"])

    def at_output(name: str, _: nn.Module, __: Any, output: Any) -> None:
        on_values(name, output if isinstance(output, Tensor) else output[0])

    def at_logits(_: nn.Module, __: Any, output: Any) -> None:
        on_values(_ENDS[1], output.logits)

    with contextlib.ExitStack() as stack:
        for index, layer in enumerate(vlm.layout.layers if layers else ()):
            before = layer.register_forward_pre_hook(partial(at_input, index), with_kwargs=True)
            after = layer.register_forward_hook(partial(at_output, f"the outputs of layer {index}"))
            stack.callback(before.remove)
            stack.callback(after.remove)
        end = vlm.layout.decoder.register_forward_hook(partial(at_output, _ENDS[0]))
        stack.callback(end.remove)
        stack.callback(vlm.model.register_forward_hook(at_logits).remove)
        yield
