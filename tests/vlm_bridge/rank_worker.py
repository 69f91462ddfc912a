"""What one rank of a test run does: profile, sweep and certify a tiny model; may die on the way.

torchrun --nproc-per-node 2 -m tests.vlm_bridge.rank_worker DATA OUT [--die RANK HOW]
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch

from tests.vlm_bridge.tiny import tiny_llava
from vlm_bridge.data import read_jsonl
from vlm_bridge.errors import BridgeError
from vlm_bridge.evaluate import certify, paired
from vlm_bridge.evaluate.full_answers import FullAnswers
from vlm_bridge.evaluate.sweep import sweep, sweep_plans
from vlm_bridge.observe import collector
from vlm_bridge.observe.profile import profile
from vlm_bridge.observe.reservoir import Reservoir
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.runtime.distributed import is_main, rank

PLAN = SkipPlan("freeze", 4, layers=(1, 2))


def results(data: Path, out: Path) -> dict[str, object]:
    """Everything two ranks must agree on with one, with checkpoints in `out`."""
    vlm, items = tiny_llava(), read_jsonl(data)
    reservoir = Reservoir(rows=6, width=5, seed=3)
    made = {
        "profile": profile(
            vlm, items, batch_size=2, checkpoint=out / "profile.safetensors", reservoir=reservoir
        ).to_json(),
        "sweep": [
            one.to_json()
            for one in sweep(
                vlm, items, sweep_plans(4, step=2), batch_size=2, checkpoint=out / "s.jsonl"
            )
        ],
        "certificates": [
            one.to_json()
            for one in certify.certify_both(
                vlm,
                items,
                PLAN,
                epsilon=0.5,
                batch_size=2,
                checkpoint=out / "c.jsonl",
                max_new_tokens=8,
            )
        ],
    }
    full = FullAnswers.ask(vlm, items, batch_size=2, checkpoint=out / "f.jsonl", max_new_tokens=8)
    alike = full.outcomes(vlm, PLAN, batch_size=2, limit=2.0, checkpoint=out / "never.jsonl")
    made["answers"] = [list(full.texts), list(alike.disagree)]
    early = full.outcomes(vlm, SkipPlan("early_exit", 4, exit=0), batch_size=2, limit=0.0)
    made["given up"] = 0 < len(early.items) < len(items) and sum(early.disagree) > 0
    samples = reservoir.samples
    made["rows"] = samples.rows
    made["states"] = {group: samples.arrays[group].tolist() for group in samples.arrays}
    return made


def die_in_the_second_batch(how: str) -> None:
    """Let this rank end itself in its second certification or profile batch."""
    left = {"count": 2}

    def fatal(*args: object, run: object, **kwargs: object) -> object:
        left["count"] -= 1
        if left["count"] == 0:
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise BridgeError("cannot read the image 3.png")
        return run(*args, **kwargs)  # type: ignore[operator]

    where, name = {
        "killed": (collector.Collector, "run"),
        "failed": (paired, "answer_batch"),
    }[how]
    run = getattr(where, name)
    setattr(where, name, lambda *a, **k: fatal(*a, run=run, **k))


def main(data: str, out: str, *die: str) -> None:
    torch.set_num_threads(1)
    if die and int(die[1]) == rank():
        die_in_the_second_batch(die[2])
    found = results(Path(data), Path(out))
    if is_main():
        Path(out, "results.json").write_text(json.dumps(found))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except BridgeError as error:
        sys.stderr.write(f"rank {os.environ.get('RANK', '0')} says: {error}\n")
        raise SystemExit(2) from None
