import subprocess
import sys

CODE = """
import sys
import estimators
heavy = {"scipy", "torch", "transformers", "dit", "sympy", "matplotlib", "hypothesis"}
heavy &= set(sys.modules)
assert not heavy, heavy
"""


def test_importing_is_light():
    subprocess.run([sys.executable, "-c", CODE], check=True, timeout=60)


def test_every_public_name_exists():
    import estimators

    assert all(hasattr(estimators, name) for name in estimators.__all__)
