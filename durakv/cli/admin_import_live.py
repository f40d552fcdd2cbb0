"""``durakv-cli import --from-live``: order a group to follow a live server, show how far it is, and cut over if asked.

Rule: only asks and watches; the group itself does the work, and goes on when this program ends. The cut-over holds the
source's writers, waits for the last byte, and lets go of them when anything goes wrong before the group was opened.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

import click
import hiredis

from durakv.cli.admin_pipe import Pipe, Refusal, Reply, connect, pack

_POLL_S: Final = 0.2
_PATIENCE_S: Final = 60.0
_NEWS_S: Final = 5.0
# How long the source's writers are held while their clients are pointed at the group.
PAUSE_S: Final = 60

Progress = Callable[[int, int], None]


class Stopped(Exception):
    """The import cannot go on by itself; the group says why."""


class Live:
    """One import from ``source`` (HOST:PORT) into the group behind ``pipe``."""

    def __init__(self, pipe: Pipe, source: str) -> None:
        self._pipe = pipe
        self.source = source
        host, separator, port = source.rpartition(":")
        if not separator or not port.isdigit():
            raise Refusal(f"{source}: is not HOST:PORT")
        self._host, self._port = host.strip("[]"), port
        self.facts: dict[str, str] = {}
        self._began = time.monotonic()

    def order(self) -> None:
        """Make the group follow. Raises Refusal, Lost."""
        self._pipe.insist(_PATIENCE_S, b"REPLICAOF", self._host.encode(), self._port.encode())

    def wait(self, bar: AbstractContextManager[Progress]) -> None:
        """Until the group has all that the source has sent. Raises Stopped, Refusal, Lost."""
        told = ""
        heard_of_by = time.monotonic() + _NEWS_S
        with bar as progress:
            while True:
                facts = self._look()
                phase = facts.get("import_phase", "")
                if not phase:
                    if time.monotonic() > heard_of_by:
                        raise Stopped("somebody has ended the import with REPLICAOF NO ONE")
                    # The order was committed elsewhere and has yet to reach this node.
                    time.sleep(_POLL_S)
                    continue
                heard_of_by = 0.0
                if phase == "stopped":
                    raise Stopped(facts.get("import_error", ""))
                if phase == "streaming" and facts.get("master_link_status") == "up" and self.lag_bytes() == 0:
                    return
                if facts.get("import_error", "") not in ("", told):
                    told = facts["import_error"]
                    click.echo(f"{self.source}: {told}; the group tries again", err=True)
                total = int(facts.get("master_sync_total_bytes", "0"))
                if total > 0:
                    progress(int(facts.get("master_sync_read_bytes", "0")), total)
                time.sleep(_POLL_S)

    def lag_bytes(self) -> int:
        """What the group has read of the stream and not committed; 0 on a node that does not run the link."""
        facts = self.facts
        return max(0, int(facts.get("slave_read_repl_offset", "0")) - int(facts.get("slave_repl_offset", "0")))

    def cut_over(self, user: str, password: str, timeout_s: float) -> int:
        """Hold the source's writers, wait for its last byte, open the group; that byte.

        Raises Stopped, Refusal, Lost.
        """
        source = connect(self.source, user, password, timeout_s)
        try:
            _insist(source, b"CLIENT", b"PAUSE", b"%d" % (PAUSE_S * 1000), b"WRITE")
            try:
                last = int(_facts(source).get("master_repl_offset", "-1"))
                self._wait_for(last, timeout_s)
                self._pipe.insist(timeout_s, b"REPLICAOF", b"NO", b"ONE")
            except BaseException:
                _insist(source, b"CLIENT", b"UNPAUSE")
                raise
        finally:
            source.close()
        return last

    def _wait_for(self, offset: int, timeout_s: float) -> None:
        until = time.monotonic() + min(timeout_s, PAUSE_S / 2)
        while True:
            facts = self._look()
            if facts.get("import_phase") == "stopped":
                raise Stopped(facts.get("import_error", ""))
            if facts.get("import_failed_commands", "0") != "0":
                raise Stopped(
                    f"{facts['import_failed_commands']} commands of the source failed in the group, the last one "
                    f"{facts.get('import_last_failed_command', '')}; compare the data, then cut over by hand"
                )
            if facts.get("import_phase") == "streaming" and int(facts.get("slave_repl_offset", "-1")) >= offset:
                return
            if time.monotonic() > until:
                raise Stopped(
                    f"the group is at byte {facts.get('slave_repl_offset')} and the source at {offset}; its writers go "
                    "on, try again when the two are closer"
                )
            time.sleep(_POLL_S / 4)

    def _look(self) -> dict[str, str]:
        self.facts = _facts(self._pipe)
        return self.facts

    def document(self) -> dict[str, object]:
        """What there is to tell, for --json."""
        facts = self.facts
        return {
            "source": self.source, "phase": facts.get("import_phase", "free"),
            "offset": int(facts.get("slave_repl_offset", "-1")),
            "failed_commands": int(facts.get("import_failed_commands", "0")),
            "seconds": round(time.monotonic() - self._began, 3),
        }  # fmt: skip


def open_group(address: str, user: str, password: str, timeout_s: float) -> Pipe:
    """Connect to a node of the group, also while it loads. Raises Lost, Refusal."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit():
        raise Refusal(f"{address}: is not HOST:PORT")
    pipe = Pipe(host.strip("[]"), int(port), timeout_s)
    if password:
        _insist(pipe, b"AUTH", *([user.encode()] if user else []), password.encode())
    return pipe


def import_live(
    source: str, address: str, bar: AbstractContextManager[Progress], *, user: str, password: str, timeout_s: float,
    cut_over: bool, source_user: str, source_password: str, as_json: bool,
) -> None:  # fmt: skip
    """The whole of it, with what it says. Raises Stopped, Refusal, Lost."""
    pipe = open_group(address, user, password, timeout_s)
    try:
        live = Live(pipe, source)
        live.order()
        live.wait(bar)
        last = live.cut_over(source_user, source_password, timeout_s) if cut_over else -1
    finally:
        pipe.close()
    if as_json:
        click.echo(json.dumps(live.document() | {"cut_over": cut_over}))
    elif cut_over:
        click.echo(
            f"The group has everything up to byte {last} of {source} and takes writes now. Writers of {source} are "
            f"held for {PAUSE_S} s: point its clients at the group, then stop it. To go back: CLIENT UNPAUSE there."
        )
    else:
        for line in _next_steps(live):
            click.echo(line)


def _next_steps(live: Live) -> list[str]:
    out = [f"The group follows {live.source}, at byte {live.facts.get('slave_repl_offset')}. It goes on doing so."]
    failed = live.facts.get("import_failed_commands", "0")
    if failed != "0":
        out.append(
            f"{failed} commands of the source failed in the group, the last one "
            f"{live.facts.get('import_last_failed_command')}: compare the data before you cut over."
        )
    out += [
        "To cut over: the same command with --cut-over; or, by hand,",
        f"  redis-cli -h {live.source.replace(':', ' -p ')} CLIENT PAUSE {PAUSE_S * 1000} WRITE",
        "  wait until slave_repl_offset in INFO replication of the group is the source's master_repl_offset",
        "  REPLICAOF NO ONE, to any node of the group; then point the clients at it.",
    ]
    return out


def _facts(pipe: Pipe) -> dict[str, str]:
    reply = _insist(pipe, b"INFO", b"replication")
    text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else str(reply)
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value for name, separator, value in pairs if separator}


def _insist(pipe: Pipe, *words: bytes) -> Reply:
    pipe.send(pack(words))
    reply = pipe.receive()
    if isinstance(reply, hiredis.ReplyError):
        raise Refusal(f"{pipe.address}: {words[0].decode()}: {reply}")
    return reply
