"""An RDB file of this node's state at one log index, made by a process that reads the checkpoint.

First the checkpoint is brought up to now, then the worker reads it: the server neither forks nor waits.
Rule: the only place that starts that process and understands its lines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from durakv.checkpoint.place import environment, read_current

if TYPE_CHECKING:
    from durakv.replication.checkpoints import Checkpoints
    from durakv.world.ports import Child

VERB: Final = "write-rdb"


class Form:
    """What goes into a file. ``version_max``: no later form than this RDB version; 10 is Redis 7.0's."""

    __slots__ = ("functions", "keys", "version_max")

    def __init__(self, version_max: int, *, keys: bool = True, functions: bool = True) -> None:
        self.version_max = version_max
        self.keys = keys
        self.functions = functions

    def args(self) -> list[str]:
        """For the worker."""
        out = [str(self.version_max)]
        if not self.keys:
            out.append("--without-keys")
        if not self.functions:
            out.append("--without-functions")
        return out

    def same(self, other: Form) -> bool:
        """Whether both describe the same file."""
        return self.args() == other.args()


class Made:
    """A finished file: the log index whose state it has, its size in bytes, how many keys."""

    __slots__ = ("index", "keys", "path", "size")

    def __init__(self, path: str, index: int, size: int, keys: int) -> None:
        self.path = path
        self.index = index
        self.size = size
        self.keys = keys


# (the file, "") or (None, why there is none); called exactly once.
Done = Callable[["Made | None", str], None]


class Job:
    """One file under way. ``fsync``: it has to survive a power cut."""

    def __init__(self, checkpoints: Checkpoints, path: str, form: Form, done: Done, *, fsync: bool) -> None:
        self.checkpoints = checkpoints
        self.path = path
        self.form = form
        self.fsync = fsync
        self._done: Done | None = done
        self._child: Child | None = None
        self._made: Made | None = None
        self._error = ""

    def start(self) -> None:
        """Ask for a checkpoint of now."""
        self.checkpoints.save(self._saved)

    def cancel(self, reason: str) -> None:
        """Give up; ``done`` hears why at once."""
        if self._child is not None:
            self._child.kill()
        self._finish(None, reason)

    def _saved(self, error: str) -> None:
        if self._done is None:
            return
        if error:
            self._finish(None, error.removeprefix("ERR "))
            return
        checkpoints = self.checkpoints
        number = read_current(checkpoints.disk, checkpoints.directory) or 0
        now_s = str(checkpoints.clock.wall_ms() // 1000)
        args = [VERB, environment(checkpoints.directory, number), self.path, now_s, *self.form.args()]
        if self.fsync:
            args.append("--fsync")
        try:
            self._child = checkpoints.spawn(args, self._line, self._ended)
        except OSError as e:
            self._finish(None, f"the process that writes RDB files cannot be started: {e}")

    def _line(self, line: str) -> None:
        words = line.split()
        if len(words) == 4 and words[0] == "R":
            self._made = Made(self.path, int(words[1]), int(words[2]), int(words[3]))
        else:
            self._error = line.removeprefix("E ")

    def _ended(self, code: int) -> None:
        self._child = None
        if code == 0 and self._made is not None:
            self._finish(self._made, "")
        else:
            self._finish(None, self._error or f"the process that writes RDB files ended with exit code {code}")

    def _finish(self, made: Made | None, error: str) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(made, error)
