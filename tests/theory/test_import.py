import importlib
import json
import pkgutil
import subprocess
import sys

import theory

LAZY = """
import json, sys
import theory
print(json.dumps(sorted(sys.modules)))
"""


def test_import_loads_no_torch_no_sympy_and_none_of_its_modules():
    run = subprocess.run(
        [sys.executable, "-c", LAZY], check=True, timeout=60, capture_output=True, text=True
    )
    loaded = set(json.loads(run.stdout))
    assert not loaded & {"torch", "transformers", "sympy"}
    assert [name for name in loaded if name.startswith("theory.")] == []


def test_every_exported_name_can_be_imported():
    assert theory.__all__ == sorted(theory.__all__, key=lambda name: (not name[0].isupper(), name))
    for name in theory.__all__:
        assert getattr(theory, name) is not None
        assert name in dir(theory)


def test_no_exported_name_hides_a_module():
    for module in pkgutil.walk_packages(theory.__path__, "theory."):
        if module.name.endswith("__main__"):
            continue
        parent, _, leaf = module.name.rpartition(".")
        loaded = importlib.import_module(module.name)
        assert getattr(importlib.import_module(parent), leaf) is loaded, module.name
