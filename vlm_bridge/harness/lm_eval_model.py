"""A model with a plan for the lm-evaluation-harness, registered there as `skipit`."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.models.hf_vlms import DEFAULT_IMAGE_PLACEHOLDER, HFMultimodalLM
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import replace_placeholders
from lm_eval.utils import simple_parse_args_string

from vlm_bridge.errors import BridgeError
from vlm_bridge.harness.forced import forced_log_probs
from vlm_bridge.harness.planned_model import LOADING, PlannedModel, check_options

#: What `lm_eval` passes beside the arguments of the model.
_OF_THE_HARNESS = ("batch_size", "max_batch_size")


class _UnderPlan(LM):
    """What both kinds of models share: every request is answered under the plan."""

    planned: PlannedModel

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> Any:
        with self.planned.running():
            return super().loglikelihood(requests, disable_tqdm=disable_tqdm)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> Any:
        with self.planned.running():
            return super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> Any:
        with self.planned.running():
            return super().generate_until(requests, disable_tqdm=disable_tqdm)

    def set_cache_hook(self, cache_hook: Any) -> None:
        """Give the answers a table of their own in a file of `--use_cache`.

        The harness looks answers up by the request alone, so that another plan, or another model,
        would be given the answers of this one.
        """
        if (store := cache_hook.dbdict) is not None:
            store.tablename = f"skipit_{self.planned.key}"
            table = f'"{store.tablename}" (key TEXT PRIMARY KEY, value BLOB)'
            store.conn.execute(f"CREATE TABLE IF NOT EXISTS {table}")
            store.conn.commit()
        super().set_cache_hook(cache_hook)

    def get_model_info(self) -> dict[str, str]:
        """What `results["config"]` says of the model: its name, plan, hash and fingerprint."""
        return self.planned.about()


class SkippedText(_UnderPlan, HFLM):
    """A text-only model under a plan."""

    def __init__(self, planned: PlannedModel, **options: Any) -> None:
        self.planned = planned
        # The harness gives its tokenizer a padding token.
        tokenizer = copy.deepcopy(planned.vlm.tokenizer)
        super().__init__(pretrained=planned.vlm.model, tokenizer=tokenizer, **options)


class SkippedVision(_UnderPlan, HFMultimodalLM):
    """A vision-language model under a plan; requests may be of text alone, too."""

    def __init__(self, planned: PlannedModel, **options: Any) -> None:
        self.planned = planned
        super().__init__(pretrained=planned.vlm.model, **options)

    def _create_tokenizer(self, *_: Any, **__: Any) -> None:
        self.processor = copy.deepcopy(self.planned.vlm.processor)
        self.tokenizer = self.processor.tokenizer

    def tok_batch_multimodal_encode(
        self,
        strings: Sequence[str],
        images: Sequence[Sequence[Any]],
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,
    ) -> Any:
        """Model inputs of prompts with images, (batch, length), with one start of text each.

        Raises:
            BridgeError: a prompt is longer than `left_truncate_len`: cutting it would cut images.
        """
        texts = [self._with_image_tokens(text) for text in strings]
        start = self.tokenizer.bos_token
        started = bool(start) and texts[0].startswith(start)
        encoded = self.processor(
            text=texts,
            images=[list(of_one[: self.max_images]) for of_one in images],
            padding=True,
            padding_side=padding_side,
            return_tensors="pt",
            **({"add_special_tokens": False} if started else {}),
        ).to(self.device, self.model.dtype)
        length = encoded["input_ids"].shape[1]
        if left_truncate_len is not None and length > left_truncate_len:
            raise BridgeError(
                f"a prompt with its images has {length} tokens, and {self.planned.vlm.name} has "
                f"room for {left_truncate_len} before the answer; ask with fewer or smaller "
                "images, or for a shorter answer (max_gen_toks)"
            )
        return encoded

    def _with_image_tokens(self, text: str) -> str:
        """A prompt with the model's own image tokens; a chat template has put them in already."""
        if self.chat_applied:
            return text
        placeholder = DEFAULT_IMAGE_PLACEHOLDER
        made = replace_placeholders(text, placeholder, self.image_token, self.max_images)
        return str(made)

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Log-probability of each continuation, and whether it is the greedy one.

        `sum_t log p(c_t | context, images, c_<t)` in nats, where the context is one pass and each
        token of the continuation another, as in `generate`: a plan that chooses tokens by the end
        of the prompt chooses as it would for an answer. (The harness itself has none for images.)
        """
        if requests and len(requests[0].args) < 3:
            plain: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm)
            return plain
        found: list[tuple[float, bool]] = []
        with self.planned.running():
            for start in range(0, len(requests), self.batch_size):
                asked = [request.args for request in requests[start : start + self.batch_size]]
                found += self._of_batch(asked)
        for request, one in zip(requests, found, strict=True):
            self.cache_hook.add_partial("loglikelihood", request.args, one)
        return found

    def _of_batch(self, asked: Sequence[tuple[str, str, Any]]) -> list[tuple[float, bool]]:
        contexts, continuations = [], []
        for context, continuation, _ in asked:
            contexts.append(context.rstrip())
            # Outer spaces of the context belong to the continuation, as in the harness.
            _, tokens = self._encode_pair(context, continuation)
            if not tokens:
                raise BridgeError(
                    f"the continuation {continuation!r} has no tokens of its own behind its "
                    "context; give each choice at least one"
                )
            continuations.append(tokens)
        longest = max(map(len, continuations))
        inputs = self.tok_batch_multimodal_encode(
            contexts,
            [aside["visual"] for *_, aside in asked],
            left_truncate_len=self.max_length - longest,
        )
        return forced_log_probs(self.model, inputs, continuations)


def lm_eval_model(
    pretrained: Any,
    plan: Any = None,
    *,
    batch_size: int | str = 16,
    max_batch_size: int = 64,
    **loading: Any,
) -> LM:
    """A model under a plan, as `lm_eval.simple_evaluate(model=...)` takes it.

    Prompts, stop sequences, few-shot examples and scores are those of the harness; only the model
    is ours. The plan's hash is in `results["config"]`, and each pair of model and plan has a table
    of its own in a file of `use_cache`. With images, `loglikelihood` is computed as `generate`
    computes an answer.

    Args:
        pretrained: a `VLM` (`vlm_bridge.load`, `vlm_bridge.wrap`), or a name that `load` takes.
        plan: a `SkipPlan`, words such as "freeze 2-11", the path of its file, or None.
        batch_size: requests in a batch; `auto` for text-only models.
        max_batch_size: the largest that `auto` tries.
        loading: options of `vlm_bridge.load`: dtype, device, attention, trust_remote_code.

    Raises:
        BridgeError: as `PlannedModel.of`; an encoder-decoder; `auto` with a vision-language model.

    Source: EleutherAI lm-evaluation-harness 0.4.13, `HFLM` and `HFMultimodalLM`.

    Example:
        >>> lm = lm_eval_model("reference-smolvlm", "freeze 4,6")  # doctest: +SKIP
        >>> lm_eval.simple_evaluate(model=lm, tasks=["scenes"])  # doctest: +SKIP
        >>> lm_eval_model(7)
        Traceback (most recent call last):
        vlm_bridge.errors.BridgeError: a model is wanted, got 7; load one with vb.load(NAME), or \
wrap one in memory with vb.wrap(model, processor)
    """
    planned = PlannedModel.of(pretrained, plan, **loading)
    vlm = planned.vlm
    if vlm.layout.encoder_decoder:
        raise BridgeError(
            f"{vlm.name} is an encoder-decoder, which this harness is not given; compare it with "
            "vlm_bridge.compare"
        )
    options = {"batch_size": batch_size, "max_batch_size": max_batch_size}
    if not hasattr(vlm.processor, "image_processor"):
        return SkippedText(planned, **options)
    if not str(batch_size).isdecimal() or int(batch_size) < 1:
        raise BridgeError(
            f"a vision-language model wants a batch_size of at least 1, got {batch_size!r}"
        )
    return SkippedVision(planned, **options)


@register_model("skipit")
class FromArguments(LM):
    """The entry of the registry: makes an `lm_eval_model` of `--model_args`."""

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: Any = None) -> LM:
        """`create_from_arg_obj` of arguments as `pretrained=reference,plan=freeze 2-11`."""
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    @classmethod
    def create_from_arg_obj(cls, arg_dict: Mapping[str, Any], additional_config: Any = None) -> LM:
        """The model that the arguments name.

        The command line of the harness says `cuda:0` where the user names no device; where there is
        none, this is the CPU. A device among the arguments of the model is taken as it is.

        Raises:
            BridgeError: no `pretrained`, or an unknown argument.
        """
        of_harness = dict(additional_config or {})
        if of_harness.get("device") == "cuda:0" and not torch.cuda.is_available():
            of_harness["device"] = None
        given = {**of_harness, **arg_dict}
        check_options(given, ("pretrained", "plan", *LOADING, *_OF_THE_HARNESS))
        if "pretrained" not in given:
            raise BridgeError("--model_args lacks pretrained=NAME, the model that answers")
        return lm_eval_model(**{name: value for name, value in given.items() if value is not None})
