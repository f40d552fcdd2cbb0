"""The world a node lives in: clock, dice, disk and network, as protocols.

Rule: nothing outside ``durakv/world/real_*.py`` and the simulator touches time, randomness, files, threads or
sockets. Everything else is handed these objects, so a whole cluster can run deterministically in one process.
All callbacks run on the node's single event-loop thread unless a docstring says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A scheduled callback."""

    def cancel(self) -> None:
        """Forget the callback; harmless when it already ran."""


class Clock(Protocol):
    """Time and the event loop's turn."""

    def monotonic_ns(self) -> int:
        """Nanoseconds since an arbitrary start; never steps back, counts suspend (CLOCK_BOOTTIME on Linux)."""

    def raw_ns(self) -> int:
        """Nanoseconds of a second clock that nobody steers (CLOCK_MONOTONIC_RAW), to check the first one; -1: none."""

    def wall_ms(self) -> int:
        """Unix milliseconds; may step. Used only to stamp log entries and to judge expiry on reads."""

    def call_later(self, delay_ms: float, fn: Callable[[], None]) -> Timer:
        """Run ``fn`` once after at least ``delay_ms``."""

    def call_soon(self, fn: Callable[[], None]) -> None:
        """Run ``fn`` after all input that is ready in this turn of the loop has been handled."""


class Rng(Protocol):
    """Randomness that need not be replicated (election jitter, ids, seeds)."""

    def below(self, n: int) -> int:
        """Uniform int in [0, n)."""

    def bits64(self) -> int:
        """Uniform 64-bit int."""

    def token(self, nbytes: int) -> bytes:
        """Unpredictable bytes, for secrets and identities."""


class File(Protocol):
    """An open file. Every call blocks and may raise OSError; call from a disk job or at boot only."""

    def pread(self, size: int, offset: int) -> bytes: ...

    def pwrite(self, data: bytes, offset: int) -> int:
        """Bytes written, which may be fewer than given."""

    def fdatasync(self) -> None: ...

    def fsync(self) -> None: ...

    def fallocate(self, offset: int, size: int) -> None: ...

    def truncate(self, size: int) -> None: ...

    def size(self) -> int: ...

    def close(self) -> None: ...


class Disk(Protocol):
    """A directory tree plus one ordered lane of background jobs (the log thread)."""

    def open(self, path: str, *, create: bool = False, direct: bool = False) -> File:
        """Open for reading and writing. ``direct`` reads past the page cache (recovery R1)."""

    def exists(self, path: str) -> bool: ...

    def listdir(self, path: str) -> list[str]:
        """Sorted names."""

    def mkdir(self, path: str) -> None:
        """Create with parents; no error when it exists. Does not sync the parent."""

    def rename(self, old: str, new: str) -> None: ...

    def link(self, old: str, new: str) -> None:
        """Give a file a second name; raises FileExistsError, and changes nothing, when ``new`` is taken."""

    def unlink(self, path: str) -> None: ...

    def fsync_dir(self, path: str) -> None: ...

    def free_bytes(self, path: str) -> int: ...

    def lock(self, path: str) -> bool:
        """Take an exclusive lock held until the process ends; False when another process has it."""

    def wait_unlocked(self, path: str, timeout_ms: int) -> bool:
        """Wait until no other process holds the lock of that file, if there is one; False when time ran out.

        Blocks; call at boot.
        """

    def submit(self, job: Callable[[], None], done: Callable[[OSError | None], None]) -> None:
        """Run ``job`` on the log lane, strictly in submission order; then ``done(error)`` on the loop thread.

        ``job`` may use only File and Disk calls. An exception other than OSError is a bug and stops the node.
        """


class Stream(Protocol):
    """An open byte stream to a peer."""

    def write(self, data: bytes) -> None:
        """Queue bytes; never blocks. Ignored after close."""

    def write_buffer_bytes(self) -> int:
        """Bytes accepted by write() and not yet by the kernel."""

    def close(self) -> None:
        """Flush what is queued, then close."""

    def abort(self) -> None:
        """Close now, dropping what is queued."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def peer_address(self) -> tuple[str, int]: ...

    def local_address(self) -> tuple[str, int]: ...


class StreamHandler(Protocol):
    """What a Stream calls."""

    def on_open(self, stream: Stream) -> None: ...

    def on_data(self, data: bytes) -> None: ...

    def on_close(self, error: Exception | None) -> None:
        """Called exactly once, also after a failed connect (then without on_open)."""


class Listener(Protocol):
    """A bound, accepting socket."""

    def port(self) -> int: ...

    def close(self) -> None: ...


# Asked at places where a node may act unusually but never wrongly, by the place's name: whether to do so now. Only the
# simulator's world has one; in any other it is None, and nothing unusual happens.
Buggify = Callable[[str], bool]


class Network(Protocol):
    """Listening and dialling. ``tls`` names a context the world built from settings; None is plain TCP."""

    def listen(self, host: str, port: int, factory: Callable[[], StreamHandler], tls: str | None = None) -> Listener:
        """Raises OSError (address in use, not permitted, ...) synchronously."""

    def connect(self, host: str, port: int, handler: StreamHandler, timeout_ms: int, tls: str | None = None) -> None:
        """Dial; the handler hears on_open or on_close."""


class Child(Protocol):
    """A process this one started, spoken to in lines."""

    def send(self, line: str) -> None:
        """Queue a line for its standard input; ignored once it has ended."""

    def close(self) -> None:
        """End its input: it finishes what it was told and leaves."""

    def kill(self) -> None:
        """End it now."""


# (arguments of ``durakv``, what to do with each line it writes, what to do when it has ended with that exit code):
# raises OSError. It runs this program again, never a copy of this process.
Spawn = Callable[[list[str], Callable[[str], None], Callable[[int], None]], Child]


class ObjectStore(Protocol):
    """One bucket of an object store with conditional writes. Every call blocks; call from a disk job only.

    Errors are OSError. After one of a write it is unknown whether the write happened, and a write that the client
    library repeated may report False although its first attempt did it: read before deciding what that means.
    """

    def get(self, key: str) -> tuple[bytes, str] | None:
        """The object and its version tag, never older than the last completed write; None when there is none."""

    def put_new(self, key: str, body: bytes) -> bool:
        """Create the object; False when there is one already."""

    def put_if(self, key: str, body: bytes, tag: str) -> bool:
        """Replace the version that ``tag`` names; False when the object has another one by now, or is gone."""


# (bucket, endpoint URL or "" for the provider's own, region or ""): raises OSError when there is no client for it.
OpenObjectStore = Callable[[str, str, str], ObjectStore]
