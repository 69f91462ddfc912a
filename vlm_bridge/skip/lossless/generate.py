"""`generate_lossless`: the full model's answers, drafted by the same model under a plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vlm_bridge.model.finite import finite
from vlm_bridge.model.given import check_vlm
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.provenance import MAX_NEW_TOKENS
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.quiet import quiet_transformers
from vlm_bridge.skip.lossless.batch import GrowingBatch
from vlm_bridge.skip.lossless.checks import Settings, check_call, given_draft
from vlm_bridge.skip.lossless.draft import Drafting, drafts_of
from vlm_bridge.skip.lossless.options import options_of
from vlm_bridge.skip.lossless.process import Process
from vlm_bridge.skip.lossless.result import LosslessTokens
from vlm_bridge.skip.lossless.rule import Rule, rule_of


def generate_lossless(
    vlm: VLM,
    inputs: Mapping[str, Any],
    plan: SkipPlan | str,
    *,
    draft_tokens: int = 4,
    max_new_tokens: int = MAX_NEW_TOKENS,
    do_sample: bool = False,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    generator: torch.Generator | None = None,
    streamer: Any = None,
) -> LosslessTokens:
    """Generate what the full model would, faster if `plan` drafts well: speculative decoding.

    The full model reads the prompt once. Then, again and again, the model under `plan` drafts up
    to `draft_tokens` tokens, one pass each, and the full model looks at all of them in one pass:
    it keeps those that it would have chosen, up to the first that it would not, and puts a token
    of its own behind them. Where a drafted token is kept with probability a, a round of k drafted
    tokens gives (1 - a^(k+1)) / (1 - a) tokens on average. Whether that pays depends on the time
    of a draft pass: `vlm_bridge.cost.predict_lossless` and `skipit cost --lossless` say.

    **Greedy** answers are those of `model.generate(do_sample=False)`, token for token, ties
    included (the lowest id). The full model computes the logits of k + 1 places in one pass, and
    `generate` those of one place, so that both differ by rounding; where the two best logits differ
    by less than that, either token may be chosen, as with another batch size. Such a token's logit
    is within rounding of the best. **Sampled** answers have exactly the distribution of the full
    model's, whatever the plan; the same seed gives other answers than `generate`. Temperature,
    top_k, top_p and whatever else the model's `generation_config` sets alter the logits of draft
    and full model alike.

    Draft and full model share one cache. The draft reads the full model's keys of all earlier
    tokens, and its own of the tokens of the round; those are computed anew when the full model
    looks. So any plan that the model supports is a legal draft, and its quality decides about speed
    alone. Of a plan the draft takes what is skipped for text: `block` and `sublayer` of the
    decoder. What a plan skips of modality tokens is work on the prompt, which the full model does:
    with such a plan alone the draft is the full model, and lossless generation costs time.

    Rows of a batch may accept different numbers of tokens. Other threads may run the full model
    meanwhile; calls of this function on one model take turns, and a block of `skipping` is refused.

    Args:
        vlm: the model, not skipping.
        inputs: arguments of `model.generate`: input_ids (batch, length), left-padded, with mask,
            pixels and the like; `past_key_values` may hold the first part of the prompt, as a
            dynamic cache that the full model filled, and is used up. Settings that alter scores or
            end an answer at a token (`repetition_penalty`, `eos_token_id`, `logits_processor` ...:
            `HONOURED` in `vlm_bridge.skip.lossless.options`) are honoured, others are refused.
        plan: what the draft skips.
        draft_tokens: most tokens of a draft, k, from 1.
        max_new_tokens: longest answer in tokens; the end of text counts.
        do_sample: sample, in place of greedy answers.
        temperature: of sampling, above 0: logits are divided by it.
        top_k: sample among so many likeliest tokens; 0 for all.
        top_p: sample among the likeliest tokens that have this share of the probability.
        generator: source of the random numbers, on the model's device; torch's own by default.
        streamer: a transformers streamer, for a single prompt.

    Raises:
        BridgeError: a broken model; a plan of another model, one that the model does not support,
            or one that skips nothing; `inputs_embeds`; an encoder-decoder; a decoder with recurrent
            layers or others from whose state no token can be taken back; a static, quantised or
            offloaded cache, or one that was filled under a plan; settings out of range;
            settings, in `inputs` or the `generation_config`, that a draft cannot follow, such as
            `guidance_scale`, `max_time`, `stopping_criteria`, and in `inputs` beams.

    Source:
        Leviathan, Kalman and Matias 2023, arXiv 2211.17192; Chen et al. 2023, arXiv 2302.01318. A
        part of the model as its own draft: Zhang et al. 2023, arXiv 2309.08168.

    Example:
        >>> plan = SkipPlan("block", n_layers=30, layers=(11, 20))
        >>> found = generate_lossless(vlm, inputs, plan, draft_tokens=3)  # doctest: +SKIP
        >>> found.tokens, found.acceptance_rate  # doctest: +SKIP
        (((2683, 28, 2),), 1.0)
    """
    check_vlm(vlm)
    plan = given_draft(vlm, plan)
    settings = Settings(draft_tokens, max_new_tokens, do_sample, temperature, top_k, top_p)
    check_call(vlm, inputs, streamer)
    given = options_of(inputs)
    rule = rule_of(do_sample, generator, vlm.device)
    with drafts_of(vlm, plan) as drafting:

        def run() -> LosslessTokens:
            loop = _Loop(drafting, rule, settings, streamer)
            with quiet_transformers():
                found: LosslessTokens = vlm.model.generate(
                    **given, **settings.of_generate, custom_generate=loop
                )
            return found

        return finite(vlm, inputs, run)


class _Loop:
    """The decoding loop, as `generate` calls it with the arguments that it has prepared."""

    def __init__(
        self, drafting: Drafting, rule: Rule, settings: Settings, streamer: Any = None
    ) -> None:
        self._drafting, self._rule, self._settings = drafting, rule, settings
        self._streamer = streamer

    @torch.no_grad()
    def __call__(
        self,
        model: Any,
        input_ids: Tensor,
        logits_processor: Any = (),
        stopping_criteria: Any = None,
        generation_config: Any = None,
        **arguments: Any,
    ) -> LosslessTokens:
        """The answers."""
        batch, ends = GrowingBatch.of_call(model, input_ids, generation_config, arguments)
        rows = _Rows(len(input_ids), self._settings, ends)
        process = Process(batch, logits_processor)
        none = input_ids[:, :0]
        first, _ = self._rule.propose(process(batch.prefill(generation_config), none))
        batch.add(first)
        rows.take(first[:, None], [0] * len(first), 0)
        self._stream(input_ids, first)
        while any(rows.going_on):
            drafted, drawn_from = self._draft(batch, process, rows.most_drafts())
            logits, k = batch.run(drafted), drafted.shape[1]
            places = [process(logits[:, i], drafted[:, :i]) for i in range(k + 1)]
            kept, behind = self._rule.judge(torch.stack(places, 1), drafted, drawn_from)
            tokens = torch.cat([drafted, behind[:, None]], 1)
            tokens = tokens.scatter(1, kept[:, None], behind[:, None])
            counts = rows.take(tokens, kept.tolist(), k)
            self._stream(*(tokens[:, i] for i in range(counts[0])))
            if any(rows.going_on):
                batch.keep(tokens, counts, rows.going_on)
        if self._streamer is not None:
            self._streamer.end()
        return rows.result()

    def _draft(
        self, batch: GrowingBatch, process: Process, k: int
    ) -> tuple[Tensor, list[Tensor | None]]:
        """(batch, k) drafted tokens, and the distributions that they were drawn from."""
        drafted, drawn_from = batch.ids[:, :0], []
        with self._drafting():
            for _ in range(k):
                scores = process(batch.run_newest(drafted), drafted)
                token, distribution = self._rule.propose(scores)
                drafted = torch.cat([drafted, token[:, None]], 1)
                drawn_from.append(distribution)
        batch.take_back(k)
        return drafted, drawn_from

    def _stream(self, *tokens: Tensor) -> None:
        for each in tokens if self._streamer is not None else ():
            self._streamer.put(each.cpu())


class _Rows:
    """The answers so far, and what was drafted for each."""

    def __init__(self, count: int, settings: Settings, ends: list[int]) -> None:
        self._settings, self._ends = settings, set(ends)
        self._tokens: list[list[int]] = [[] for _ in range(count)]
        self._drafted, self._accepted, self._rejected = ([0] * count for _ in range(3))
        self._rounds = self._draft_passes = 0
        self.going_on = [True] * count

    def most_drafts(self) -> int:
        """Tokens to draft: no more than a row can take before its last, which is not drafted."""
        longest = min(len(t) for t, goes in zip(self._tokens, self.going_on, strict=True) if goes)
        return min(self._settings.draft_tokens, self._settings.max_new_tokens - longest - 1)

    def take(self, tokens: Tensor, kept: list[int], k: int) -> list[int]:
        """Add the kept and the next of `tokens` (batch, k + 1); how many tokens each row gained.

        A row ends at its end of text and at its longest answer.
        """
        self._rounds += 1
        self._draft_passes += k
        counts = []
        for row, (new, of_draft) in enumerate(zip(tokens.tolist(), kept, strict=True)):
            counts.append(0)
            if not self.going_on[row]:
                continue
            answer = self._tokens[row]
            new = new[: min(of_draft + 1, self._settings.max_new_tokens - len(answer))]
            end = next((i for i, token in enumerate(new) if token in self._ends), None)
            new = new if end is None else new[: end + 1]
            answer += new
            self.going_on[row] = end is None and len(answer) < self._settings.max_new_tokens
            self._drafted[row] += k
            self._accepted[row] += min(of_draft, len(new))
            self._rejected[row] += int(of_draft < k and len(new) > of_draft)
            counts[row] = len(new)
        return counts

    def result(self) -> LosslessTokens:
        """The record of what was generated."""
        return LosslessTokens(
            tokens=tuple(tuple(each) for each in self._tokens),
            drafted=tuple(self._drafted),
            accepted=tuple(self._accepted),
            rejected=tuple(self._rejected),
            full_passes=self._rounds,
            draft_passes=self._draft_passes,
        )
