"""Installing, deleting, restoring and listing function libraries: what FUNCTION's subcommands do to the programs.

Rule: checks everything before it changes anything; how a library's code becomes functions is the caller's business.
Source: functions.c.
"""

from __future__ import annotations

from collections.abc import Callable

from durakv.commands.glob import glob_match
from durakv.resp.errors import CommandError
from durakv.resp.types import Map, Reply, SetReply, Simple
from durakv.scripting import function_dump, shebang
from durakv.scripting.programs import Library, Programs

Make = Callable[[bytes], Library]


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def load(programs: Programs, make: Make, code: bytes, *, replace: bool) -> None:
    """FUNCTION LOAD. Raises CommandError."""
    name, _ = shebang.library_name(code)
    if name in programs.libraries and not replace:
        raise CommandError(f"ERR Library '{_text(name)}' already exists")
    library = _made(make, code)
    kept = {other: known for other, known in programs.libraries.items() if other != name}
    _refuse_twice(kept, [library])
    programs.set_libraries({**kept, name: library})


def _made(make: Make, code: bytes) -> Library:
    library = make(code)
    if not library.functions:
        raise CommandError("ERR No functions registered")
    return library


def _refuse_twice(kept: dict[bytes, Library], new: list[Library]) -> None:
    """No two functions may have one name, in whatever case."""
    names = {f.name.lower(): None for library in kept.values() for f in library.functions}
    for library in new:
        for f in library.functions:
            if f.name.lower() in names:
                raise CommandError(f"ERR Function {_text(f.name)} already exists")
        names.update({f.name.lower(): None for f in library.functions})


def delete(programs: Programs, name: bytes) -> None:
    """FUNCTION DELETE. Raises CommandError."""
    if name not in programs.libraries:
        raise CommandError("ERR Library not found")
    programs.set_libraries({other: library for other, library in programs.libraries.items() if other != name})


def restore(programs: Programs, make: Make, payload: bytes, policy: bytes) -> None:
    """FUNCTION RESTORE with APPEND, REPLACE or FLUSH. Raises CommandError."""
    new: dict[bytes, Library] = {}
    for code in function_dump.load(payload):
        library = _made(make, code)
        if library.name in new:
            raise CommandError(f"ERR Library '{_text(library.name)}' already exists")
        _refuse_twice(new, [library])
        new[library.name] = library
    kept = {} if policy == b"FLUSH" else programs.libraries
    for name in new:
        if name in kept and policy != b"REPLACE":
            raise CommandError(f"ERR Library {_text(name)} already exists")
    kept = {name: library for name, library in kept.items() if name not in new}
    _refuse_twice(kept, list(new.values()))
    programs.set_libraries({**kept, **new})


def listed(programs: Programs, pattern: bytes | None, *, with_code: bool) -> Reply:
    """The reply of FUNCTION LIST, in the order in which libraries were loaded."""
    out: list[Reply] = []
    for library in programs.libraries.values():
        if pattern is not None and not glob_match(pattern, library.name, nocase=True):
            continue
        functions: list[Reply] = []
        for f in library.functions:
            flags: list[Reply] = [Simple(word) for word in shebang.flag_names(f.flags)]
            functions.append(Map([b"name", f.name, b"description", f.description, b"flags", SetReply(flags)]))
        facts: list[Reply] = [b"library_name", library.name, b"engine", b"LUA", b"functions", functions]
        if with_code:
            facts += [b"library_code", library.code]
        out.append(Map(facts))
    return out
