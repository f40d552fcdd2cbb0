"""One connection to the source: a Psync over a Stream of the world's network.

Rule: hears of its connection only; once dropped it tells nobody anything any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from durakv.migration.psync import Events, Psync, Terms

if TYPE_CHECKING:
    from durakv.world.ports import Network, Stream


class Owner(Events, Protocol):
    """Whoever runs the link."""

    def on_up(self) -> None: ...

    def on_heard(self) -> None:
        """Bytes came in; called before what they say."""

    def on_lost(self, reason: str) -> None: ...


class Link:
    """See the module's text. Implements StreamHandler."""

    def __init__(self, owner: Owner, terms: Terms) -> None:
        self.psync = Psync(terms, owner)
        self.dropped = False
        self._owner = owner
        self._stream: Stream | None = None
        self._paused = False

    def dial(self, network: Network, host: str, port: int, timeout_ms: int) -> None:
        """Connect; the owner hears on_up or on_lost."""
        network.connect(host, port, self, timeout_ms)

    def send(self) -> None:
        """Send what the conversation has to say."""
        if self._stream is None or self.dropped:
            return
        out = self.psync.take_output()
        if out:
            self._stream.write(out)

    def pause(self, *, on: bool) -> None:
        """Leave further bytes to the kernel, or take them again."""
        if self._stream is None or on == self._paused or self.dropped:
            return
        self._paused = on
        if on:
            self._stream.pause_reading()
        else:
            self._stream.resume_reading()

    def paused(self) -> bool:
        """Whether the source could say something and would not be heard."""
        return self._paused

    def drop(self) -> None:
        """Close without a word."""
        self.dropped = True
        if self._stream is not None:
            self._stream.abort()
            self._stream = None

    # -- StreamHandler -----------------------------------------------------------------------------------------------

    def on_open(self, stream: Stream) -> None:
        """See StreamHandler."""
        if self.dropped:
            stream.abort()
            return
        self._stream = stream
        self._owner.on_up()
        self.send()

    def on_data(self, data: bytes) -> None:
        """See StreamHandler."""
        if self.dropped:
            return
        self._owner.on_heard()
        self.psync.feed(data)
        self.send()

    def on_close(self, error: Exception | None) -> None:
        """See StreamHandler."""
        self._stream = None
        if not self.dropped:
            self.dropped = True
            self._owner.on_lost(str(error) or type(error).__name__ if error is not None else "it hung up")
