"""Answer a batch of jobs by the full model, under a plan, or under an adaptive plan."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteriaList

from vlm_bridge.evaluate.adaptive import AdaptiveRun, standing
from vlm_bridge.evaluate.answers import at_limit, up_to_end
from vlm_bridge.evaluate.generate_call import pad_id
from vlm_bridge.model.finite import finite
from vlm_bridge.model.prompts import Batch, check_takes, collate
from vlm_bridge.model.vlm import VLM
from vlm_bridge.plan.adaptive import AdaptivePlan
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.quiet import quiet_transformers
from vlm_bridge.server.job import Answer, Failure, Job
from vlm_bridge.server.request import Sampling
from vlm_bridge.server.watched import Watched
from vlm_bridge.skip import skipping
from vlm_bridge.skip.by_token import generate_by_token


class Answering:
    """Answers batches of equal settings.

    Args:
        vlm: the model.
        plan: None for the full model.
        prompt_tokens: longest prompt; a longer one fails alone.
    """

    def __init__(self, vlm: VLM, plan: SkipPlan | AdaptivePlan | None, prompt_tokens: int) -> None:
        self._vlm, self._plan, self._longest_prompt = vlm, plan, prompt_tokens

    @torch.no_grad()
    def answer(self, jobs: Sequence[Job]) -> None:
        """Tell every job its pieces and its answer.

        Raises:
            Exception: whatever the model raises; jobs that were told nothing may be run again.
        """
        items = [job.request.item for job in jobs]
        check_takes(self._vlm, items)
        batch = collate(self._vlm, items, range(len(items)))
        lengths = self._lengths(batch)
        fitting = [row for row, job in enumerate(jobs) if self._fits(job, lengths[row])]
        if len(fitting) < len(jobs):
            if fitting:
                self.answer([jobs[row] for row in fitting])
            return
        if isinstance(self._plan, AdaptivePlan):
            work = self._by_token if self._plan.by_token else self._by_gates
            work(self._plan, jobs, batch, lengths)
        else:
            self._at_once(jobs, batch, lengths)

    def _lengths(self, batch: Batch) -> list[int]:
        """Tokens of each prompt, without padding."""
        mask = batch.inputs.get("attention_mask")
        ids = batch.inputs["input_ids"]
        return [ids.shape[1]] * len(ids) if mask is None else mask.sum(1).tolist()

    def _fits(self, job: Job, length: int) -> bool:
        config: Any = self._vlm.layout.text_config
        positions = getattr(config, "max_position_embeddings", None)
        room = length + job.request.max_tokens
        if length > self._longest_prompt:
            text = f"have {length} tokens; a prompt has at most {self._longest_prompt}"
        elif positions and room > positions:
            text = (
                f"have {length} tokens, and the model has positions for {positions}; ask for at "
                f"most {max(positions - length, 0)} 'max_tokens', or for less"
            )
        else:
            return True
        job.say(Failure(f"'messages' {text}", 400))
        return False

    def _at_once(self, jobs: Sequence[Job], batch: Batch, lengths: Sequence[int]) -> None:
        """One run of all rows."""
        request = jobs[0].request
        seed = None
        if request.sampling is not None:
            seed = request.sampling.seed
            seed = secrets.randbits(53) if seed is None else seed
        watched: list[Watched] = []

        def run() -> Tensor:
            watched.append(Watched(self._vlm, jobs))
            with quiet_transformers():
                made: Tensor = self._vlm.model.generate(
                    **batch.inputs,
                    **_drawing(request.sampling),
                    num_beams=1,
                    max_new_tokens=request.max_tokens,
                    stopping_criteria=StoppingCriteriaList([watched[-1]]),
                )
            return made

        with self._running(), _seeded(self._vlm, seed):
            made = finite(self._vlm, batch.inputs, run, names=batch.names)
        self._tell(jobs, made[:, -watched[-1].steps :], lengths, watched[-1], seed=seed)

    def _by_gates(
        self, plan: AdaptivePlan, jobs: Sequence[Job], batch: Batch, lengths: Sequence[int]
    ) -> None:
        """Rows that stand at a gate are told at once, the others go on."""
        longest = jobs[0].request.max_tokens
        run = AdaptiveRun(self._vlm, batch, plan, max_new_tokens=longest)
        for stood in standing(run, plan):
            some = [jobs[row] for row in stood.rows]
            whose = [lengths[row] for row in stood.rows]
            watched = Watched(self._vlm, some)
            self._tell(some, stood.made.ids, whose, watched, gate=stood.gate)

    def _by_token(
        self, plan: AdaptivePlan, jobs: Sequence[Job], batch: Batch, lengths: Sequence[int]
    ) -> None:
        """One run of all rows, whose tokens are judged apart."""
        longest = jobs[0].request.max_tokens
        made = generate_by_token(self._vlm, batch.inputs, plan.gates[0], max_new_tokens=longest)
        for gate in sorted(set(made.gates)):
            rows = [row for row, of_row in enumerate(made.gates) if of_row == gate]
            new = [torch.tensor(made.tokens[row]) for row in rows]
            padded = torch.nn.utils.rnn.pad_sequence(
                new, batch_first=True, padding_value=pad_id(self._vlm)
            )
            some = [jobs[row] for row in rows]
            whose = [lengths[row] for row in rows]
            self._tell(some, padded, whose, Watched(self._vlm, some), gate=gate)

    def _running(self) -> AbstractContextManager[Any]:
        plan = self._plan
        return skipping(self._vlm, plan) if isinstance(plan, SkipPlan) else self._vlm.whole()

    def _tell(
        self,
        jobs: Sequence[Job],
        new: Tensor,
        lengths: Sequence[int],
        watched: Watched,
        *,
        gate: int | None = None,
        seed: int | None = None,
    ) -> None:
        tokens = up_to_end(self._vlm, new)
        texts = self._vlm.tokenizer.batch_decode(new, skip_special_tokens=True)
        cut = at_limit(self._vlm, new, jobs[0].request.max_tokens)
        for row, job in enumerate(jobs):
            if job.cancelled.is_set():  # its row was cut off
                continue
            text = texts[row].strip()
            finish = "length" if cut[row] else "stop"
            watched.finish(row, text)
            job.say(Answer(text, finish, lengths[row], len(tokens[row]), gate, seed))


def _drawing(sampling: Sampling | None) -> dict[str, Any]:
    """The arguments of `generate` for greedy or drawn tokens."""
    if sampling is None:
        return {"do_sample": False}
    drawn = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    return {"do_sample": True, "top_k": 0, **drawn}


@contextlib.contextmanager
def _seeded(vlm: VLM, seed: int | None) -> Iterator[None]:
    """Draw by a seed in the block, and leave the generators of the process as they were."""
    if seed is None:
        yield
        return
    devices = [vlm.device] if vlm.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield
