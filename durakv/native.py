"""Which compiled modules may be used: the build's manifest, checked against the sources before anything is imported.

Rule: the only place that decides between an extension module and its ``.py``. A compiled module is used only when a
manifest written by the build names every source with the hash it has now; otherwise the whole program runs interpreted,
because compiled modules call each other natively and must never be mixed with edited sources. Knows nothing of what the
modules do; standard library only, since ``setup.py`` imports it before anything is installed.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Final

MANIFEST_NAME: Final = "compiled.json"
SHARED_LIBRARY: Final = "durakv.native__mypyc"
INTERPRETED_VARIABLE: Final = "DURAKV_INTERPRETED"


class Verdict:
    """What the manifest allows: the compiled modules to use (none = interpreted) and the reason in words."""

    __slots__ = ("listed", "reason", "usable")

    def __init__(self, usable: bool, listed: tuple[str, ...], reason: str) -> None:
        self.usable = usable
        self.listed = listed
        self.reason = reason

    def describe(self) -> str:
        """``compiled (17 modules)`` or ``interpreted (why)``; logged at start and shown by INFO."""
        if self.usable:
            return f"compiled ({len(self.listed)} modules)"
        return f"interpreted ({self.reason})"


class SourcePreferred:
    """A meta path finder that loads the listed modules from their ``.py`` although an extension lies beside it."""

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self._sources = {name: source_of(root, name) for name in names}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The source spec of a listed module, None for any other."""
        del path, target
        source = self._sources.get(fullname)
        if source is None:
            return None
        loader = importlib.machinery.SourceFileLoader(fullname, str(source))
        return importlib.util.spec_from_file_location(fullname, source, loader=loader)


def source_of(root: Path, name: str) -> Path:
    """The source file of a dotted module name below ``root`` (the directory that holds ``durakv/``)."""
    return root.joinpath(*name.split(".")).with_suffix(".py")


def extension_of(root: Path, name: str) -> Path:
    """Where this interpreter's extension module of that name lies after an in-place build."""
    return root.joinpath(*name.split(".")).with_suffix(importlib.machinery.EXTENSION_SUFFIXES[0])


def source_hash(path: Path) -> str:
    """Hex digest of a source file's bytes."""
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def write_manifest(package_dir: Path, hashes: Mapping[str, str]) -> None:
    """Record in ``package_dir`` (a built ``durakv/``) the source hash each compiled module was made from."""
    modules = {name: hashes[name] for name in sorted(hashes)}
    text = json.dumps({"suffix": importlib.machinery.EXTENSION_SUFFIXES[0], "modules": modules}, indent=1)
    temporary = package_dir / (MANIFEST_NAME + ".new")
    temporary.write_text(text + "\n")
    temporary.replace(package_dir / MANIFEST_NAME)


def judge(root: Path, environ: Mapping[str, str]) -> Verdict:
    """Compare the manifest with the sources and extensions that are there. Never raises on a damaged manifest."""
    path = root / "durakv" / MANIFEST_NAME
    if not path.exists():
        return Verdict(False, tuple(_stray_extensions(root)), "no compiled modules are installed")
    try:
        manifest = json.loads(path.read_text())
        modules: dict[str, str] = dict(manifest["modules"])
        suffix = manifest["suffix"]
    except (ValueError, KeyError, TypeError):
        return Verdict(False, tuple(_stray_extensions(root)), "compiled.json is damaged; run a fresh compile")
    listed = tuple(modules)
    if environ.get(INTERPRETED_VARIABLE, "") not in ("", "0"):
        return Verdict(False, listed, f"{INTERPRETED_VARIABLE} is set")
    if suffix != importlib.machinery.EXTENSION_SUFFIXES[0]:
        return Verdict(False, listed, f"compiled modules are for {suffix}")
    for name in (*listed, SHARED_LIBRARY):
        if not extension_of(root, name).exists():
            return Verdict(False, listed, f"{name} was not built")
    for name, digest in modules.items():
        source = source_of(root, name)
        if not source.exists() or source_hash(source) != digest:
            return Verdict(False, listed, f"{name} changed since it was compiled")
    return Verdict(True, listed, "")


def activate(root: Path) -> Verdict:
    """Judge, and when the extensions may not be used, make every later import take the sources instead."""
    verdict = judge(root, os.environ)
    if not verdict.usable and verdict.listed:
        sys.meta_path.insert(0, SourcePreferred(root, verdict.listed))
    return verdict


def _stray_extensions(root: Path) -> list[str]:
    """Module names whose source has an extension beside it that no manifest vouches for."""
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    found = []
    for path in sorted((root / "durakv").rglob("*" + suffix)):
        source = path.with_name(path.name.removesuffix(suffix) + ".py")
        if source.exists():
            found.append(".".join(source.relative_to(root).with_suffix("").parts))
    return found
