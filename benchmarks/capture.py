"""What capture costs over a plain forward, beside `output_hidden_states=True`.

    python -m benchmarks.capture --json

Every variant runs in turn with a plain forward of the same inputs, so that a machine that
drifts slows both; ratios are paired. The time is that of the process's own work on the CPU, so
that what else runs there counts less. Peak memory is the most that tensors took at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from benchmarks import _help
from benchmarks._llava import TEXT_TOKENS, VISION_TOKENS, prompt, random_llava
from benchmarks._table import paired, report
from vlm_bridge.cost.memory import peak_bytes
from vlm_bridge.model.vlm import VLM
from vlm_bridge.observe.collector import Collector
from vlm_bridge.observe.hooks import capturing_states
from vlm_bridge.observe.reservoir import Reservoir

Run = Callable[[dict[str, torch.Tensor], int], object]


def variants(vlm: VLM) -> dict[str, Run]:
    """Of every variant, by name: a function of inputs and the number of their batch."""
    collectors = {
        "profile": Collector(vlm.layout.n_layers),
        "profile and reservoir": Collector(vlm.layout.n_layers, Reservoir(1000, width=64)),
    }

    def plain(inputs: dict[str, torch.Tensor], _: int) -> object:
        return vlm.layout.base(**inputs, use_cache=False)

    def hooks(inputs: dict[str, torch.Tensor], _: int) -> object:
        with capturing_states(vlm, lambda *_: None):
            return vlm.layout.base(**inputs, use_cache=False)

    def peer(inputs: dict[str, torch.Tensor], _: int) -> object:
        return vlm.layout.base(**inputs, use_cache=False, output_hidden_states=True)

    def collecting(name: str) -> Run:
        def run(inputs: dict[str, torch.Tensor], number: int) -> object:
            clusters = [f"{number}/{row}" for row in range(len(inputs["input_ids"]))]
            return collectors[name].run(vlm, inputs, clusters)

        return run

    found: dict[str, Run] = {"plain": plain, "output_hidden_states": peer, "hooks alone": hooks}
    return found | {name: collecting(name) for name in collectors}


@torch.no_grad()
def ratios(vlm: VLM, name: str, batch: int, pairs: int) -> list[float]:
    """Time of the variant over that of the plain forward just before or after it."""
    runs, found = variants(vlm), []
    for number in range(pairs + 1):
        inputs = prompt(batch, seed=number)
        order = [runs["plain"], runs[name]]
        times = [_seconds(run, inputs, number) for run in order[:: 1 if number % 2 else -1]]
        plain, variant = times[:: 1 if number % 2 else -1]
        found.append(variant / plain)
    return found[1:]  # the first pair warms up


def _seconds(run: Run, inputs: dict[str, torch.Tensor], number: int) -> float:
    start = time.process_time()
    run(inputs, number)
    return time.process_time() - start


@torch.no_grad()
def peak_mib(vlm: VLM, name: str, batch: int, batches: int) -> float:
    """The most that tensors took at once while so many batches went by, in MiB."""
    run = variants(vlm)[name]

    def through() -> None:
        for number in range(batches):
            run(prompt(batch, seed=number), number)

    return peak_bytes(through, vlm.device) / 2**20


def main() -> None:
    """Measure every variant at every batch size."""
    parser = _help.parser("capture", __doc__ or "")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    parser.add_argument("--pairs", type=int, default=7, help="paired runs of a variant")
    parser.add_argument("--batch-size", type=int, nargs="*", default=[1, 4], help="batch sizes")
    parser.add_argument("--batches", type=int, default=6, help="batches of the longer memory run")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    vlm, rows = random_llava(), []
    for batch in options.batch_size:
        for name in variants(vlm):
            rows.append(
                {
                    "batch_size": batch,
                    "variant": name,
                    **paired(ratios(vlm, name, batch, options.pairs)),
                    "peak_mib": peak_mib(vlm, name, batch, 2),
                    "peak_mib_longer": peak_mib(vlm, name, batch, options.batches),
                }
            )
    report(
        "capture: time over a plain forward",
        rows,
        as_json=options.json,
        model=vlm.name,
        tokens=f"{VISION_TOKENS} vision + {TEXT_TOKENS} text",
        pairs=options.pairs,
        time="CPU seconds of the process",
        batches=f"2 and {options.batches} (longer)",
    )


if __name__ == "__main__":
    main()
