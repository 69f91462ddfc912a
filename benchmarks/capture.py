"""What capture costs over a plain forward, beside `output_hidden_states=True`.

    python -m benchmarks.capture --json

Every variant runs in turn with a plain forward of the same inputs, so that a machine that
drifts slows both; ratios are paired. Peak memory is that of a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from benchmarks._llava import TEXT_TOKENS, VISION_TOKENS, prompt, random_llava
from benchmarks._table import paired, report
from vlm_bridge.capture import capturing_states
from vlm_bridge.collecting import Collector
from vlm_bridge.reservoir import Reservoir
from vlm_bridge.vlm import VLM

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
        order = ("plain", name) if number % 2 else (name, "plain")
        times = {one: _seconds(runs[one], inputs, number) for one in order}
        found.append(times[name] / times["plain"])
    return found[1:]  # the first pair warms up


def _seconds(run: Run, inputs: dict[str, torch.Tensor], number: int) -> float:
    start = time.perf_counter()
    run(inputs, number)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


@torch.no_grad()
def peak_mib(name: str, batch: int, batches: int) -> float:
    """Peak resident memory of this process over that after the first plain forward."""
    vlm = random_llava()
    runs = variants(vlm)
    runs["plain"](prompt(batch), 0)
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(batches):
        kept = runs[name](prompt(batch, seed=number), number)
        del kept
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) / 1024


def _peak_elsewhere(name: str, batch: int, batches: int) -> float:
    command = [sys.executable, "-m", "benchmarks.capture", "--peak", name]
    command += ["--batch", str(batch), "--batches", str(batches)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(json.loads(out))


def main() -> None:
    """Measure every variant at every batch size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    parser.add_argument("--pairs", type=int, default=7, help="paired runs of a variant")
    parser.add_argument("--batch", type=int, nargs="*", default=[1, 4], help="batch sizes")
    parser.add_argument("--batches", type=int, default=6, help="batches of the longer memory run")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        print(json.dumps(peak_mib(options.peak, options.batch[0], options.batches)))
        return
    vlm, rows = random_llava(), []
    for batch in options.batch:
        for name in variants(vlm):
            if name != "plain":
                rows.append(
                    {
                        "batch": batch,
                        "variant": name,
                        **paired(ratios(vlm, name, batch, options.pairs)),
                        "extra_peak_mib": _peak_elsewhere(name, batch, 2),
                        "extra_peak_mib_longer": _peak_elsewhere(name, batch, options.batches),
                    }
                )
    report(
        "capture: time over a plain forward",
        rows,
        as_json=options.json,
        model=vlm.name,
        tokens=f"{VISION_TOKENS} vision + {TEXT_TOKENS} text",
        pairs=options.pairs,
        batches=f"2 and {options.batches} (longer)",
    )


if __name__ == "__main__":
    main()
