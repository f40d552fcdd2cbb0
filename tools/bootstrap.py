"""Makes ``.venv`` and the editable install, once: a stamp of what was asked makes later runs a hash comparison.

Rule: standard library only, since it runs before anything is installed; the only place that calls pip. Versions come
from pyproject.toml, where every one is pinned.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

PYTHON_MIN = (3, 11)
STAMP_NAME = "durakv-stamp.json"
PROGRAMS = ("durakv", "durakv-cli", "jstyle")


class BootstrapError(Exception):
    """The environment could not be made; the text says what to do."""


def venv_python(root: Path) -> Path:
    """The interpreter inside ``.venv``."""
    return root / ".venv" / "bin" / "python"


def inside(root: Path) -> bool:
    """Whether this process already runs in ``root``'s ``.venv``."""
    return Path(sys.prefix).resolve() == (root / ".venv").resolve()


def fingerprint(root: Path) -> str:
    """Hash of everything the install depends on: dependency pins, entry points, package map, interpreter version."""
    table = tomllib.loads((root / "pyproject.toml").read_text())
    asked = {
        "build": table["build-system"]["requires"],
        "dependencies": table["project"]["dependencies"],
        "dev": table["project"]["optional-dependencies"]["dev"],
        "scripts": table["project"]["scripts"],
        "setuptools": table["tool"]["setuptools"],
        "python": list(sys.version_info[:3]),
        "root": str(root),
    }
    return hashlib.blake2b(json.dumps(asked, sort_keys=True).encode(), digest_size=16).hexdigest()


def installed(root: Path, wanted: str) -> bool:
    """Whether ``.venv`` was completed for exactly this fingerprint and its programs are still there."""
    binaries = root / ".venv" / "bin"
    if not all((binaries / name).exists() for name in ("python", *PROGRAMS)):
        return False
    stamp = root / ".venv" / STAMP_NAME
    return stamp.exists() and stamp.read_text().strip() == wanted


def ensure(root: Path) -> bool:
    """Make or refresh ``.venv`` when it is not what pyproject.toml asks for. Returns whether anything was done."""
    if sys.version_info < PYTHON_MIN:
        found = ".".join(str(part) for part in sys.version_info[:3])
        raise BootstrapError(f"Python {found} is too old: run this with Python 3.11 or later")
    wanted = fingerprint(root)
    if installed(root, wanted):
        return False
    python = venv_python(root)
    if not python.exists():
        print("Creating .venv", flush=True)
        venv.create(root / ".venv", with_pip=True, symlinks=True)
    table = tomllib.loads((root / "pyproject.toml").read_text())
    print("Installing pinned dependencies and durakv (editable)", flush=True)
    _pip(python, root, *table["build-system"]["requires"])
    # The build tools just installed are used as they are: no second, isolated download of them.
    _pip(python, root, "--no-build-isolation", "-e", ".[dev]")
    (root / ".venv" / STAMP_NAME).write_text(wanted + "\n")
    return True


def _pip(python: Path, root: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-qq", *arguments]
    # Compiling is a step of its own (tools/native_build.py), so that an install never waits for a C compiler.
    environment = {**os.environ, "DURAKV_COMPILE": "0", "PIP_ROOT_USER_ACTION": "ignore"}
    done = subprocess.run(command, cwd=root, env=environment, check=False)
    if done.returncode != 0:
        raise BootstrapError(f"pip failed ({' '.join(arguments)}); see its message above, then run this again")
