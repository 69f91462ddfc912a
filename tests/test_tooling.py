"""The promises of README, Makefile and packaging that no other test would notice."""

from __future__ import annotations

import importlib
import os
import re
import tomllib
from importlib import metadata
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from vlm_bridge.cli.method import _settings

ROOT = Path(__file__).resolve().parent.parent
#: Extras for work on the checkout; the others are for users, and `all` is all of those.
OURS = {"all", "bench", "notebooks", "dev"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def direct_requirements() -> list[Requirement]:
    lines = [*PROJECT["dependencies"]]
    for extra in PROJECT["optional-dependencies"].values():
        lines += extra
    return [r for r in map(Requirement, lines) if r.name != PROJECT["name"]]


def pins() -> dict[str, str]:
    lines = (line.split("#")[0].strip() for line in read("constraints.txt").splitlines())
    found = dict(line.split("==") for line in lines if line)
    return {canonicalize_name(name): version for name, version in found.items()}


@pytest.mark.parametrize("command", ["make demo", "make test"])
def test_readme_names_the_commands_on_its_first_screen(command: str) -> None:
    first_screen = "\n".join(read("README.md").splitlines()[:40])
    assert command in first_screen


def test_changelog_has_an_unreleased_section() -> None:
    assert re.search(r"^## \[Unreleased\]", read("CHANGELOG.md"), re.MULTILINE)


def test_ci_runs_all_tests() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    lines = read(".ci/run").splitlines()
    assert "set -euo pipefail" in lines
    assert lines.index("make test") < lines.index("make test-slow")


def test_every_test_is_in_one_of_the_two_runs() -> None:
    markers = re.findall(r'pytest .*-m "(.+)"', read("Makefile"))
    assert markers == ["not slow and not gpu and not full", "slow or gpu", "full"]


@pytest.mark.parametrize("requirement", direct_requirements(), ids=lambda r: r.name)
def test_direct_dependencies_are_pinned_within_their_range(requirement: Requirement) -> None:
    pinned = pins().get(canonicalize_name(requirement.name))
    assert pinned is not None, f"{requirement.name} is not in constraints.txt"
    assert requirement.specifier.contains(pinned), f"{pinned} is outside {requirement}"


def test_only_numpy_and_scipy_come_without_an_extra() -> None:
    assert {Requirement(line).name for line in PROJECT["dependencies"]} == {"numpy", "scipy"}


def test_all_is_every_extra_for_users() -> None:
    extras = PROJECT["optional-dependencies"]
    (everything,) = map(Requirement, extras["all"])
    assert everything.name == PROJECT["name"]
    assert everything.extras == set(extras) - OURS


def test_every_package_has_the_version_of_the_distribution() -> None:
    versions = {
        importlib.import_module(name).__version__ for name in ("estimators", "theory", "vlm_bridge")
    }
    assert versions == {metadata.version(PROJECT["name"])}


def test_ci_runs_every_python_that_is_promised() -> None:
    prefix = "Programming Language :: Python :: 3."
    promised = [c.split()[-1] for c in PROJECT["classifiers"] if c.startswith(prefix)]
    (matrix,) = re.findall(r"python: \[(.+)\]", read(".github/workflows/ci.yml"))
    assert re.findall(r"[\d.]+", matrix) == promised


def test_torch_is_pinned_without_a_build() -> None:
    assert "+" not in pins()["torch"], "2.13.0+cpu would shut out every other build"


@pytest.mark.parametrize("name", sorted(PROJECT["scripts"]))
def test_console_script_resolves(name: str) -> None:
    module, _, function = PROJECT["scripts"][name].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_typed_packages_say_so() -> None:
    for package in ("theory", "estimators", "vlm_bridge"):
        assert (ROOT / package / "py.typed").is_file(), package


def installed_closure() -> set[str]:
    """Names of the distributions that the package and its extras bring along, installed."""
    found: set[str] = set()
    extras = [name for name in PROJECT["optional-dependencies"] if name not in OURS]
    lines = chain(*(PROJECT["optional-dependencies"][name] for name in extras))
    required = map(Requirement, [*PROJECT["dependencies"], *lines])
    queue = [(r, "") for r in required if r.name != PROJECT["name"]]
    while queue:
        requirement, extra = queue.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # for another platform
        if name not in found:
            found.add(name)
            queue += [(Requirement(line), "") for line in lines]
    return found


def licence(name: str) -> str:
    """What a distribution declares: the expression, the classifiers, or the first line."""
    fields = metadata.metadata(name)
    expression = fields.get("License-Expression")
    classifiers = [c for c in fields.get_all("Classifier") or [] if c.startswith("License ::")]
    return expression or "; ".join(classifiers) or (fields.get("License") or "").split("\n")[0]


def test_no_dependency_is_under_the_gpl() -> None:
    licences = {name: licence(name) for name in installed_closure()}
    assert len(licences) > len(PROJECT["dependencies"])
    bad = {
        name: text
        for name, text in licences.items()
        if re.search(r"\bA?GPL|(?<!Lesser )General Public", text)
    }
    assert not bad


def test_the_settings_of_methods_in_the_readme_are_accepted():
    for name, setting in re.findall(r"skipit method +(\S+) .*--set (\S+)", read("README.md")):
        assert _settings(name, [setting])


def test_the_commands_of_the_readme_share_one_ledger():
    """`certify` spends delta for two certificates, `search` for one, on the same images."""
    certify = re.findall(r"^skipit certify .*$", read("README.md"), re.MULTILINE)
    (search,) = re.findall(r"^skipit search .* easy-vqa:.*$", read("README.md"), re.MULTILINE)
    assert "certification" in search
    total = float(re.findall(r"--ledger-delta (\S+)", certify[0])[0])
    assert round(total - 3 * 0.05, 12) >= 0
