"""The lm-evaluation-harness on a skipped model: a local task, the full model and a plan.

Needs `pip install 'skipit[vlm,harness]'` and nothing from the network. For the same on the command
line see the first lines of examples/lm_eval/scenes.yaml.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import lm_eval
from lm_eval.tasks import TaskManager

import vlm_bridge as vb
from vlm_bridge.harness.lm_eval_model import lm_eval_model

PLAN = "block 2-5"  # of the 8 layers; it does harm, so that there is something to see
TASK, METRIC, N_IMAGES = "scenes", "exact_match,none", 24


def main() -> None:
    """Run the task for the full model and for the plan, and print both scores."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    vlm = vb.load("reference-smolvlm")
    folder = Path(__file__).parent / "lm_eval"
    tasks = TaskManager(include_path=str(folder), include_defaults=False)
    scores = []
    for plan in (None, PLAN):
        done = lm_eval.simple_evaluate(
            model=lm_eval_model(vlm, plan),
            tasks=[TASK],
            task_manager=tasks,
            limit=N_IMAGES,
            apply_chat_template=True,
            bootstrap_iters=0,
        )
        scores.append(float(done["results"][TASK][METRIC]))
        print(f"{done['config']['model']}: {done['config']['plan']}: {METRIC} {scores[-1]:.3f}")
    full, skipped = scores
    print(f"drop {full - skipped:.3f} on {N_IMAGES} images, one question each")


if __name__ == "__main__":
    main()
