"""A stock server and a durakv of one node, for the time of a campaign."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.commands.running import Reference
from tests.live.group import Group

# A campaign may share a busy machine.
_START_S = 120.0


@dataclass(frozen=True)
class Ports:
    """Where both listen, and which program the stock server is."""

    ours: int
    theirs: int
    peer: str


def peer_found(wanted: str | None = None) -> str | None:
    """The path of the stock server; None where there is none."""
    names = (f"{wanted}-server",) if wanted else ("valkey-server", "redis-server")
    return next((path for path in map(shutil.which, names) if path), None)


@contextlib.contextmanager
def running(binary: str) -> Iterator[Ports]:
    """Both servers, on empty directories, stopped afterwards."""
    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory)
        (base / "stock").mkdir()
        stock = Reference(binary, str(base / "stock"))
        try:
            # What is compared is replies; that writes are durable is tested elsewhere.
            group = Group(base, 1, ["--appendfsync", "no"])
            try:
                group.nodes[0].start()
                node = group.leader(_START_S)
                yield Ports(node.port, stock.socket.getpeername()[1], Path(binary).name)
            finally:
                group.nodes[0].kill()
        finally:
            stock.close()
