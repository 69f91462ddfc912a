import subprocess
import sys

CODE = """
import sys
import theory
heavy = {"torch", "transformers"} & set(sys.modules)
assert not heavy, heavy
"""


def test_importing_never_loads_torch():
    subprocess.run([sys.executable, "-c", CODE], check=True, timeout=60)
