"""The conda route holds the versions of the lock, and the lock holds everything, with hashes and without an index."""

import re
import tomllib

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from rosutils.params import ROOT


LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = ("3.11", "3.12", "3.13")


def lock_entries() -> list[tuple[Requirement, str]]:
    """Each requirement of the lock and the text up to the next one."""
    parts = re.split(r"^(?=[A-Za-z0-9])", LOCK, flags=re.MULTILINE)
    return [(Requirement(text.split("\\\n")[0].strip()), text) for text in parts if re.match(r"[A-Za-z0-9]", text)]


def environment() -> dict:
    return yaml.safe_load((ROOT / "environment.yml").read_text())


def conda_requirements() -> list[Requirement]:
    (section,) = [entry["pip"] for entry in environment()["dependencies"] if isinstance(entry, dict)]
    return [Requirement(line) for line in section if not line.startswith("-e")]


def pins(requirements, python: str) -> dict[str, str]:
    """The one version of each package on a Python version (Linux, x86-64)."""
    where = default_environment() | {
        "python_version": python, "python_full_version": f"{python}.9", "sys_platform": "linux", "os_name": "posix",
        "platform_machine": "x86_64", "platform_system": "Linux", "implementation_name": "cpython",
    }  # fmt: skip
    found: dict[str, str] = {}
    for requirement in requirements:
        if requirement.marker is None or requirement.marker.evaluate(where):
            (specifier,) = requirement.specifier
            assert specifier.operator == "==", requirement
            name = canonicalize_name(requirement.name)
            assert name not in found, f"{name} has two versions on Python {python}"
            found[name] = specifier.version
    return found


@pytest.mark.parametrize("python", PYTHONS)
def test_the_conda_route_installs_every_direct_dependency_in_the_version_of_the_lock(python):
    direct = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    locked = pins([requirement for requirement, _ in lock_entries()], python)
    assert pins(conda_requirements(), python) == {name: locked[name] for name in direct}


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_meets_the_lower_bounds_of_the_project(python):
    locked = pins([requirement for requirement, _ in lock_entries()], python)
    wanted = [Requirement(line) for line in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"])]
    assert [str(w) for w in wanted if not w.specifier.contains(locked[canonicalize_name(w.name)])] == []


def test_every_entry_of_the_lock_is_exact_and_has_hashes():
    entries = lock_entries()
    assert len(entries) > 50
    for requirement, text in entries:
        assert [specifier.operator for specifier in requirement.specifier] == ["=="], requirement
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", text), requirement


@pytest.mark.parametrize("name", ["requirements.lock", "environment.yml"])
def test_no_address_is_written_down(name):
    text = (ROOT / name).read_text()
    assert not re.search(r"https?:|://|index-url|find-links|trusted-host", text)


def test_the_conda_environment_is_named_after_the_module_and_installs_it():
    found = environment()
    assert found["name"] == PROJECT["name"] == "rosutils"
    plain = [entry for entry in found["dependencies"] if isinstance(entry, str)]
    assert any(entry.startswith("python ") for entry in plain) and "pip" in plain
    (section,) = [entry["pip"] for entry in found["dependencies"] if isinstance(entry, dict)]
    assert "-e ." in section
