"""Programs the tests compare with: a Redis server, its client tools, strace, node for a second client library.

Rule: standard library only; the only place that calls apt-get or npm. Nothing here is needed to run durakv. What cannot
be installed is said in one line each, naming the promise that then goes untested.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

# program on PATH, Debian package, what is not tested without it
WANTED = (
    ("redis-server", "redis-server", "that replies equal a real server's (differential tests)"),
    ("redis-cli", "redis-tools", "that redis-cli and redis-benchmark work against durakv"),
    ("strace", "strace", "that no call of the storage escapes the recorder of crash enumeration"),
    ("node", "nodejs", "that ioredis works against durakv"),
    ("npm", "npm", "that ioredis works against durakv"),
    ("etcd", "etcd-server", "that an etcd serves as config holder of lease mode"),
)


def ensure(root: Path) -> list[str]:
    """Install what is missing when that is possible; returns one line for every promise left untested."""
    missing = [row for row in WANTED if shutil.which(row[0]) is None]
    if missing and os.geteuid() == 0 and shutil.which("apt-get") is not None:
        _apt([package for _, package, _ in missing])
        missing = [row for row in missing if shutil.which(row[0]) is None]
    lines = [f"untested: {promise}; {program} is missing (install {package})" for program, package, promise in missing]
    if shutil.which("npm") is not None:
        lines += _npm(root)
    return lines


def _apt(packages: list[str]) -> None:
    print(f"Installing {' '.join(packages)} with apt-get", flush=True)
    # RUNLEVEL=1 keeps the packages' scripts from starting a system-wide server.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["apt-get", "update", "-q"], ["apt-get", "install", "-qy", "--no-install-recommends", *packages]):
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            print(f"apt-get {command[1]} failed: {done.stderr.strip()[-300:]}", flush=True)


def _npm(root: Path) -> list[str]:
    """Install each test directory's package.json (its versions are pinned there)."""
    lines = []
    for manifest in sorted((root / "tests").rglob("package.json")):
        folder = manifest.parent
        if "node_modules" in folder.parts:
            continue
        installed = folder / "node_modules" / ".package-lock.json"
        if installed.exists() and installed.stat().st_mtime >= manifest.stat().st_mtime:
            continue
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock"]
        done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            lines.append(f"untested: what {folder.relative_to(root)} checks; npm install failed there")
        elif installed.exists():
            os.utime(installed)
    return lines
