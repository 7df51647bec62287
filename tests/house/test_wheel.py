"""The built wheel, in an environment of its own with the core dependencies alone, has the command and every module.

No network is needed: the core dependencies are linked, at the versions of constraints.txt, from the environment that
runs the tests, package by package, by what their own metadata asks for. A module that needs an extra does not find it.
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
IMPORT_ALL = """
import importlib, pkgutil, lamoid
names = ["lamoid", *(m.name for m in pkgutil.walk_packages(lamoid.__path__, "lamoid.") if m.name != "lamoid.__main__")]
for name in names:
    importlib.import_module(name)
for name in lamoid._HOME:
    getattr(lamoid, name)
print(len(names), lamoid.__file__)
"""


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(requirements: list[str]) -> set[str]:
    """Every distribution that the requirements ask for, directly or not, without any extra of Lamoid."""
    found: set[tuple[str, str]] = set()
    queue = [(Requirement(text), "") for text in requirements]
    while queue:
        requirement, extra = queue.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        for wanted in ["", *requirement.extras]:
            key = (canonical(requirement.name), wanted)
            if key not in found:
                found.add(key)
                queue += [(Requirement(text), wanted) for text in importlib.metadata.requires(key[0]) or []]
    return {name for name, _ in found}


def link(name: str, site: Path) -> None:
    """Links what a distribution put into this environment's site-packages into another's."""
    distribution = importlib.metadata.distribution(name)
    tops = {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}
    for top in tops:
        source = Path(str(distribution.locate_file(top)))
        if not (site / top).exists():
            (site / top).symlink_to(source)


def run(*command: str | Path, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "COV_"))}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python of a fresh environment that has the wheel and the core dependencies."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    shutil.copytree(ROOT / "lamoid", source / "lamoid", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", place, source, cwd=place)
    venv.create(place / "environment", with_pip=False)
    python = place / "environment" / "bin" / "python"
    [wheel] = place.glob("lamoid-*.whl")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "--quiet", "--no-index", "--no-deps", wheel, cwd=place)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=place).strip())
    for name in closure([text for text in importlib.metadata.requires("lamoid") or [] if "extra ==" not in text]):
        link(name, site)
    run(*pip, "check", cwd=place)
    return python


def test_the_command_answers(installed: Path) -> None:
    place = installed.parents[2]
    assert "lamoid" in run(installed.with_name("lamoid"), "--help", cwd=place)


def test_every_module_imports_without_an_extra(installed: Path) -> None:
    place = installed.parents[2]
    count, file = run(installed, "-W", "error", "-c", IMPORT_ALL, cwd=place).split()
    assert int(count) > 40
    assert str(installed.parents[1]) in file


@pytest.mark.parametrize("name", ["matplotlib", "tensorboard", "transformers", "pytest", "sklearn"])
def test_the_extras_are_really_absent(installed: Path, name: str) -> None:
    done = subprocess.run([str(installed), "-c", f"import {name}"], capture_output=True, check=False, timeout=60)
    assert done.returncode != 0
