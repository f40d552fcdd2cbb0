"""What is cut or replaced is kept, and every change leaves a record of who did what and why.

Rule: the only place of the recovery commands that writes into a data directory's quarantine/. A kept piece is durable
before the original goes; its name carries its checksum, which ``durakv-cli verify`` checks.
"""

from __future__ import annotations

import getpass
import json
import os
import time
from pathlib import Path
from typing import Final

from durakv import __version__
from durakv.cli.admin_files import ReadOnlyFile, result_file, sync_directory
from durakv.storage.record import crc
from durakv.storage.recovery import QUARANTINE

_PIECE_BYTES: Final = 1 << 20


def keep(data: Path, source: Path, label: str, begin: int, end: int) -> str:
    """Copy bytes [begin, end) of ``source`` to quarantine/``label``-<crc>.bin; returns that path. Idempotent."""
    folder = data / QUARANTINE
    folder.mkdir(mode=0o750, exist_ok=True)
    sync_directory(data)
    file = ReadOnlyFile(str(source), direct=True)
    try:
        value = 0
        for at in range(begin, end, _PIECE_BYTES):
            value = crc(file.pread(min(_PIECE_BYTES, end - at), at), value)
        path = folder / f"{label}-{value:08x}.bin"
        with result_file(path, force=True) as sink:
            for at in range(begin, end, _PIECE_BYTES):
                sink.write(file.pread(min(_PIECE_BYTES, end - at), at))
    finally:
        file.close()
    return str(path)


def move(data: Path, name: str) -> str:
    """Give a file or directory of ``data`` a new place, quarantine/``name``-<n>, n counting up from 1; that path."""
    folder = data / QUARANTINE
    folder.mkdir(mode=0o750, exist_ok=True)
    number = 1
    while (path := folder / f"{name}-{number:04d}").exists():
        number += 1
    (data / name).rename(path)
    sync_directory(folder)
    sync_directory(data)
    return str(path)


def used_length(source: Path, begin: int) -> int:
    """Offset behind the last byte from ``begin`` on that is not zero; ``begin`` when all are."""
    file = ReadOnlyFile(str(source), direct=True)
    try:
        end = begin
        for at in range(begin, file.size(), _PIECE_BYTES):
            piece = file.pread(_PIECE_BYTES, at).rstrip(b"\x00")
            if piece:
                end = at + len(piece)
        return end
    finally:
        file.close()


def audit(data: Path, verb: str, document: dict[str, object]) -> str:
    """Write quarantine/<verb>-<n>.json, n counting up from 1; returns its path."""
    folder = data / QUARANTINE
    folder.mkdir(mode=0o750, exist_ok=True)
    number = 1
    while (path := folder / f"{verb}-{number:04d}.json").exists():
        number += 1
    facts = {
        "what": verb, "at_ms": int(time.time() * 1000), "user": _user(), "durakv": __version__, "directory": str(data),
        **document,
    }  # fmt: skip
    with result_file(path, force=False) as sink:
        sink.write(json.dumps(facts, indent=1).encode() + b"\n")
    return str(path)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # In a container the id often has no name.
        return str(os.getuid())
