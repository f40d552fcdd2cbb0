"""A first pass over what shall be imported: is it whole, what does it hold, can all of it go in.

Rule: reads everything, sends nothing. What it finds is decided upon before the first write.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from durakv.aof.parts import OpenPart
from durakv.aof.reader import AofFile, DamagedAof
from durakv.rdb import kinds
from durakv.rdb.reader import CHECKSUM_GOOD, Entry, Function, ModuleAux, RdbFile

_TICK: Final = 4096


class Survey:
    """``commands``: lower-case names and how often; ``truncated``: what a crash left at the end, to be dropped."""

    def __init__(self) -> None:
        self.keys = 0
        self.by_type: dict[str, int] = {}
        self.functions = 0
        self.db_max = 0
        self.modules: dict[str, int] = {}
        self.commands: dict[bytes, int] = {}
        self.truncated = ""
        self.unchecked: list[str] = []
        self.bytes = 0


def survey(parts: list[OpenPart], progress: Callable[[int, int], None]) -> Survey:
    """Read all of ``parts``. Raises DamagedRdb, UnsupportedRdb, DamagedAof, OSError."""
    found = Survey()
    total = sum(part.source.size() for part in parts)
    done = 0
    for part in parts:
        start = _survey_rdb(found, part, done, total, progress) if part.rdb else 0
        if start < part.source.size():
            _survey_aof(found, part, start, done, total, progress)
        done += part.source.size()
    found.bytes = total
    return found


def _survey_rdb(found: Survey, part: OpenPart, done: int, total: int, progress: Callable[[int, int], None]) -> int:
    file = RdbFile(part.source, part.path, tail=True, skip_modules=True)
    turn = 0
    while (record := file.next()) is not None:
        turn += 1
        if turn % _TICK == 0:
            progress(done + file.position(), total)
        if isinstance(record, Entry):
            _count(found, record)
        elif isinstance(record, Function):
            found.functions += 1
        elif isinstance(record, ModuleAux):
            found.modules[f"data of {record.name}"] = found.modules.get(f"data of {record.name}", 0) + 1
    if file.checksum != CHECKSUM_GOOD:
        found.unchecked.append(part.path)
    return file.end


def _count(found: Survey, entry: Entry) -> None:
    found.keys += 1
    found.db_max = max(found.db_max, entry.db)
    name = kinds.TYPE_NAMES[entry.kind]
    found.by_type[name] = found.by_type.get(name, 0) + 1
    if entry.kind in kinds.MODULES:
        found.modules["values"] = found.modules.get("values", 0) + 1


def _survey_aof(
    found: Survey, part: OpenPart, start: int, done: int, total: int, progress: Callable[[int, int], None]
) -> None:
    file = AofFile(part.source, part.path, start)
    counts = found.commands
    turn = 0
    while (command := file.next()) is not None:
        turn += 1
        if turn % _TICK == 0:
            progress(done + command.end, total)
        name = command.argv[0].lower()
        counts[name] = counts.get(name, 0) + 1
        if name == b"select" and len(command.argv) == 2 and command.argv[1].isdigit():
            found.db_max = max(found.db_max, int(command.argv[1]))
    if file.truncated_at >= 0:
        found.truncated = (
            f"{part.path}: {part.source.size() - file.truncated_at:,} bytes from byte {file.truncated_at:,} on are the "
            "beginning of a write that was never finished"
        )
        if not part.last:
            raise DamagedAof(part.path, file.truncated_at, "it is cut off here, but another file follows it")
