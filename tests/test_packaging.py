"""The package installs from one description, with what a user and a type checker need in it."""

import configparser
import shutil
import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

import sknoisydim

ROOT = Path(__file__).parents[1]


def test_run_time_dependencies_are_six_and_bounded():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = parser["options"]["install_requires"].split()
    requirements = dict(line.split(">=") for line in lines)
    six = {"torch", "scikit-learn", "skorch", "numpy", "scipy", "safetensors"}
    assert requirements.keys() == six
    assert all(",<" in bounds for bounds in requirements.values())


def test_version_is_written_once_more_only_in_the_citation():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {sknoisydim.__version__}\n" in citation


@pytest.mark.slow
def test_wheel(tmp_path):
    # In a copy, since a build leaves its traces, and takes up those of the build before.
    source = tmp_path / "source"
    shutil.copytree(ROOT / "sknoisydim", source / "sknoisydim")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip_wheel = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip_wheel, "--quiet", "--wheel-dir", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        files = set(archive.namelist())
        (path,) = (name for name in files if name.endswith(".dist-info/METADATA"))
        metadata = message_from_string(archive.read(path).decode())
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "sknoisydim").rglob("*.py")}
    assert sources | {"sknoisydim/py.typed"} == {
        name for name in files if name.startswith("sknoisydim/")
    }
    assert {name.split("/")[0] for name in files} == {"sknoisydim", path.split("/")[0]}
    assert metadata["Version"] == sknoisydim.__version__
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata.get_payload().strip()
