"""Keeps the compiled modules honest: builds them, and removes those whose sources have changed.

Rule: standard library only. Whether an extension may be used is ``durakv/native.py``'s decision; this file acts on it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from durakv import native


def remove_extensions(root: Path) -> int:
    """Delete every extension module and the manifest of an in-place build. Returns how many files went."""
    doomed = [
        path
        for package in ("durakv", "raft")
        for path in (root / package).rglob("*" + EXTENSION_SUFFIXES[0])
        if path.is_file()
    ]
    manifest = root / "durakv" / native.MANIFEST_NAME
    if manifest.exists():
        doomed.append(manifest)
    for path in doomed:
        path.unlink()
    return len(doomed)


def compiler() -> str | None:
    """The C compiler the build would use, None when there is none."""
    return shutil.which(os.environ.get("CC", "gcc").split()[0])


def current(root: Path, names: list[str]) -> bool:
    """Whether extensions for exactly ``names`` are built and match their sources."""
    verdict = native.judge(root, {})
    return verdict.usable and sorted(verdict.listed) == sorted(names)


def build(root: Path) -> bool:
    """Compile in place with the interpreter that runs this. Returns success; on failure nothing stale is left."""
    started = time.monotonic()
    remove_extensions(root)
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", "--force"]
    done = subprocess.run(command, cwd=root, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        remove_extensions(root)
        print(done.stdout[-4000:] + done.stderr[-4000:], file=sys.stderr)
        print("compile failed: durakv runs interpreted until the errors above are fixed", file=sys.stderr)
        return False
    print(f"Built: {native.judge(root, {}).describe()} in {time.monotonic() - started:.0f} s", flush=True)
    return True


def settle(root: Path, names: list[str], *, rebuild: bool) -> bool:
    """Make sure no stale extension is left: recompile when ``rebuild`` and a compiler is there, else remove.

    Returns False only when a compile was tried and failed.
    """
    if current(root, names):
        return True
    if rebuild and os.environ.get("DURAKV_COMPILE", "1") != "0":
        if compiler() is not None:
            return build(root)
        print("No C compiler found: durakv runs interpreted (install gcc and the Python headers to compile it)")
    count = remove_extensions(root)
    if count:
        print(
            f"Removed {count} compiled files whose sources have changed; `python3 -m tools.dev compile` rebuilds them"
        )
    return True
