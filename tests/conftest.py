"""What every test run shares: threads, no network, Hypothesis profiles, the GPU marker."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# Before numpy or torch is imported: the workers of pytest-xdist share the cores. More threads
# than cores wait for each other, which makes small models ten times slower.
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0"))
if _WORKERS:
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // _WORKERS))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"

# "ci" tries the same examples on every machine; "dev" and "thorough" look for new ones:
# HYPOTHESIS_PROFILE=thorough make test
settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("dev", deadline=None)
settings.register_profile("thorough", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


#: Their slow tests repeat a few lines thousands of times; tracing them costs a third more time.
_NOT_TRACED = ("estimators", "theory")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that need a GPU where there is none; leave statistical batteries untraced."""
    for item in items:
        if item.path.parent.name in _NOT_TRACED and item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.no_cover)
    gpu_tests = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_tests:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu_tests:
            item.add_marker(pytest.mark.skip(reason=f"{item.name} needs a CUDA device"))
