"""Who imports whom, read from the source; `python -m tests.imports` prints the floors."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("estimators", "theory", "vlm_bridge")

#: The rooms of `vlm_bridge`, from the ground up. A room may import from its own floor, as long as
#: no circle comes of it, and from those below.
FLOORS = (
    ("errors",),
    ("data", "plan", "runtime", "third_party"),
    ("reference",),
    ("model",),
    ("skip",),
    ("cost", "observe"),
    ("evaluate", "figures", "harness", "training"),
    ("rules",),
    ("selection", "methods"),
    ("experiments", "server"),
    ("cli",),
    ("vlm_bridge", "__main__"),
)


@dataclass(frozen=True)
class Import:
    """One imported name: `module` is absolute, `name` is None for a plain `import module`."""

    path: Path
    line: int
    module: str
    name: str | None
    nested: bool
    typing_only: bool

    @property
    def root(self) -> str:
        return self.module.split(".")[0]

    @property
    def where(self) -> str:
        imported = self.module if self.name is None else f"{self.module}.{self.name}"
        return f"{self.path}:{self.line} imports {imported}"


def python_files(*folders: str) -> list[Path]:
    """Relative paths of the .py files under `folders`."""
    return sorted(p.relative_to(ROOT) for folder in folders for p in (ROOT / folder).rglob("*.py"))


def parse(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), str(path))


def module_name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def absolute(path: Path, node: ast.ImportFrom) -> str:
    """The module a `from` import names, dots resolved."""
    if not node.level:
        return node.module or ""
    package = path.parent.parts[: len(path.parent.parts) - node.level + 1]
    return ".".join([*package, *([node.module] if node.module else [])])


def imports_of(path: Path, tree: ast.Module | None = None) -> Iterator[Import]:
    """Every import statement of a file, in functions and under TYPE_CHECKING too."""
    queue: list[tuple[ast.AST, bool, bool]] = [(tree or parse(path), False, False)]
    while queue:
        node, nested, typing_only = queue.pop()
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, alias.name, None, nested, typing_only)
        elif isinstance(node, ast.ImportFrom):
            module = absolute(path, node)
            for alias in node.names:
                yield Import(path, node.lineno, module, alias.name, nested, typing_only)
        elif isinstance(node, ast.If) and is_type_checking(node.test):
            queue += [(child, nested, True) for child in node.body]
            queue += [(child, nested, typing_only) for child in node.orelse]
        else:
            nested = nested or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            queue += [(child, nested, typing_only) for child in ast.iter_child_nodes(node)]


def bound_names(tree: ast.Module) -> set[str]:
    """Names a module's top-level imports, definitions and assignments bind."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def import_graph(trees: dict[Path, ast.Module]) -> dict[str, dict[str, str]]:
    """module -> imported module -> where, over every import, lazy and typing-only ones too.

    `from package import name` leads to the submodule `name`, unless the package binds that
    name itself: then it leads to the package, whose `__init__` must have run to the end.
    That every module needs its parent packages is how Python works and no edge.
    """
    modules = {module_name(path): tree for path, tree in trees.items()}
    graph: dict[str, dict[str, str]] = {name: {} for name in modules}
    for path, tree in trees.items():
        for found in imports_of(path, tree):
            target = found.module
            submodule = f"{target}.{found.name}"
            if submodule in modules and found.name not in bound_names(modules[target]):
                target = submodule
            if target in modules:
                graph[module_name(path)].setdefault(target, found.where)
    return graph


def find_circle(graph: dict[str, dict[str, str]]) -> list[str]:
    """The imports that make up one circle, or an empty list."""
    done: set[str] = set()

    def visit(module: str, trail: list[str]) -> list[str]:
        if module in trail:
            circle = [*trail[trail.index(module) :], module]
            return [graph[a][b] for a, b in pairwise(circle)]
        if module in done:
            return []
        for target in graph[module]:
            if circle := visit(target, [*trail, module]):
                return circle
        done.add(module)
        return []

    return next(filter(None, (visit(module, []) for module in graph)), [])


def room_of(module: str) -> str:
    """The package of `vlm_bridge` that a module stands in, or the module itself at the top."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def floor_of(room: str) -> int:
    """Number of the floor; -1 for a room that `FLOORS` does not know."""
    return next((number for number, rooms in enumerate(FLOORS) if room in rooms), -1)


def arrows(graph: dict[str, dict[str, str]]) -> dict[tuple[str, str], list[str]]:
    """(room, other room that it imports from) -> where."""
    found: dict[tuple[str, str], list[str]] = {}
    for module, targets in graph.items():
        for target, where in targets.items():
            if room_of(module) != room_of(target):
                found.setdefault((room_of(module), room_of(target)), []).append(where)
    return found


def main() -> None:
    """Print every floor with its rooms and what they import from."""
    graph = import_graph({path: parse(path) for path in python_files("vlm_bridge")})
    found = arrows(graph)
    for number, rooms in reversed(list(enumerate(FLOORS))):
        for room in rooms:
            targets = ", ".join(sorted(target for source, target in found if source == room))
            print(f"{number:>2}  {room:<12} <- {targets or 'nothing'}")
    upward = sum(floor_of(a) < floor_of(b) for a, b in found)
    rooms = {room_of(module) for module in graph}
    print(f"{len(rooms)} rooms, {len(FLOORS)} floors, {len(found)} arrows, {upward} upward")


if __name__ == "__main__":
    main()
