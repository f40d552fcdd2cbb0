"""Cached scripts and function libraries: replicated state beside the databases, the same on every node.

Rule: changed only in apply, as the last act of a command, every change with its journal step; only which of the cached
scripts was used last is not taken back, for it is the same everywhere whatever happens to the unit. Plain data: nothing
here knows Lua.
"""

from __future__ import annotations

import hashlib
from typing import Final

from durakv.keyspace import journal

# Scripts that only EVAL has brought in are forgotten beyond this many, the longest unused first. Source: eval.c.
EVAL_SCRIPTS_MAX: Final = 500
_SCRIPTS: Final = 1
_LIBRARIES: Final = 2


class Script:
    """``text`` as it was sent, ``flags`` of its shebang."""

    __slots__ = ("flags", "text")

    def __init__(self, text: bytes, flags: int) -> None:
        self.text = text
        self.flags = flags


class Function:
    """One registered function; ``flags`` as in shebang.py."""

    __slots__ = ("description", "flags", "library", "name")

    def __init__(self, library: Library, name: bytes, description: bytes | None, flags: int) -> None:
        self.library = library
        self.name = name
        self.description = description
        self.flags = flags


class Library:
    """``code`` with its first line; ``functions`` in the order in which it registers them."""

    __slots__ = ("code", "functions", "name", "sha")

    def __init__(self, name: bytes, code: bytes) -> None:
        self.name = name
        self.code = code
        self.sha = sha1(code)
        self.functions: list[Function] = []


def sha1(text: bytes) -> bytes:
    """The name of a script: 40 hex digits."""
    return hashlib.sha1(text).hexdigest().encode()


class Programs:
    """``scripts`` by SHA-1; ``evicting`` those that may be forgotten, longest unused first. ``libraries`` by name and
    ``functions`` by lower-case name.
    """

    def __init__(self) -> None:
        self.scripts: dict[bytes, Script] = {}
        self.evicting: dict[bytes, None] = {}
        self.libraries: dict[bytes, Library] = {}
        self.functions: dict[bytes, Function] = {}
        self.evicted = 0
        # For checkpoints: scripts, and whether libraries or the order changed since they were last written down.
        self.moved: dict[bytes, None] = {}
        self.order_moved = False
        self.libraries_moved = False

    # -- scripts -----------------------------------------------------------------------------------------------------

    def used(self, sha: bytes) -> None:
        """A cached script is run by a logged request."""
        if sha in self.evicting:
            del self.evicting[sha]
            self.evicting[sha] = None
            self.order_moved = self.order_moved or len(self.evicting) > 1

    def add_evaluated(self, sha: bytes, script: Script) -> None:
        """EVAL has compiled a script that was not known."""
        while len(self.evicting) >= EVAL_SCRIPTS_MAX:
            oldest = next(iter(self.evicting))
            del self.evicting[oldest]
            del self.scripts[oldest]
            self.moved[oldest] = None
            self.evicted += 1
        self.scripts[sha] = script
        self.evicting[sha] = None
        self.moved[sha] = None
        self.order_moved = True

    def add_loaded(self, sha: bytes, script: Script) -> None:
        """SCRIPT LOAD: from now on the script stays until SCRIPT FLUSH."""
        self._keep(_SCRIPTS)
        self.scripts[sha] = script
        self.evicting.pop(sha, None)
        self.moved[sha] = None
        self.order_moved = True

    def flush_scripts(self) -> None:
        """SCRIPT FLUSH."""
        self._keep(_SCRIPTS)
        self.scripts = {}
        self.evicting = {}

    # -- libraries ---------------------------------------------------------------------------------------------------

    def set_libraries(self, libraries: dict[bytes, Library]) -> None:
        """These and no others; their functions' names do not collide."""
        self._keep(_LIBRARIES)
        self.libraries = libraries
        self.functions = {f.name.lower(): f for library in libraries.values() for f in library.functions}

    def take(self, scripts: dict[bytes, Script], evicting: dict[bytes, None], libraries: dict[bytes, Library]) -> None:
        """Become what a checkpoint says."""
        self.scripts = scripts
        self.evicting = evicting
        self.libraries = libraries
        self.functions = {f.name.lower(): f for library in libraries.values() for f in library.functions}
        self.moved = {}
        self.order_moved = self.libraries_moved = False

    # -- journal and digest --------------------------------------------------------------------------------------------

    def _keep(self, what: int) -> None:
        if what == _SCRIPTS:
            journal.steps.append((self, what, dict(self.scripts), dict(self.evicting)))
            self.moved.update(dict.fromkeys(self.scripts))
            self.order_moved = True
        else:
            self.libraries_moved = True
            journal.steps.append((self, what, self.libraries, self.functions))

    def undo(self, op: int, a: dict[bytes, Script], b: dict[bytes, None]) -> None:
        """See journal."""
        if op == _SCRIPTS:
            self.scripts, self.evicting = a, b
            self.moved.update(dict.fromkeys(a))
            self.order_moved = True
        else:
            self.libraries_moved = True
            self.libraries, self.functions = a, b  # type: ignore[assignment]

    def canonical(self) -> bytes:
        """Content as bytes for the state digest; empty when there is nothing."""
        out = [b"script %b %d\n" % (sha, sha in self.evicting) for sha in sorted(self.scripts)]
        if self.evicting:
            out.append(b"order " + b" ".join(self.evicting) + b"\n")
        for name in sorted(self.libraries):
            library = self.libraries[name]
            out.append(b"library %b %b\n" % (name, library.sha))
            for f in library.functions:
                description = f.description or b""
                out.append(b"function %b %d %d:%b\n" % (f.name, f.flags, len(description), description))
        return b"".join(out)
