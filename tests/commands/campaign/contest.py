"""One type and protocol, program after program: what was compared, and what differs.

Rule: the only place that decides how many programs make a campaign and how much of what differs is told.
"""

from __future__ import annotations

from collections import Counter

from tests.commands.campaign.compare import Judge
from tests.commands.campaign.programs import Maker, Step
from tests.commands.campaign.runner import Difference, Runner
from tests.commands.campaign.servers import Ports
from tests.commands.campaign.wire import Server

PROGRAM = 500
# Different bugs worth telling of in one run.
MOST_TOLD = 12


class Campaign:
    """One type and protocol against one pair of servers."""

    def __init__(self, ports: Ports, kind: str, protocol: int) -> None:
        self.kind = kind
        self.protocol = protocol
        self.ours = Server(ports.ours, "durakv", protocol)
        self.theirs = Server(ports.theirs, ports.peer, protocol)
        self.judge = Judge(ports.peer, kind)
        self.runner = Runner(self.ours, self.theirs, self.judge, marked=kind == "pubsub")
        self.maker = Maker(kind, self._known())
        self.commands = 0
        self.programs = 0
        self.differing: Counter[tuple[bytes, str, str]] = Counter()
        self.told: list[str] = []

    def _known(self) -> frozenset[bytes]:
        """Commands that both have."""
        lists = [
            {name.upper() for _, name in server.ask(b"COMMAND", b"LIST")[1]} for server in (self.ours, self.theirs)
        ]
        return frozenset(lists[0] & lists[1])

    def run(self, seed: int, commands: int, length: int = PROGRAM) -> None:
        """Programs of seeds from ``seed`` on, until as many commands were compared."""
        while self.commands < commands:
            steps = self.maker.program(seed, min(length, max(50, commands - self.commands)))
            found = self.runner.difference(steps)
            self.commands += len(steps)
            self.programs += 1
            if found:
                self._tell(seed, steps, found)
            seed += 1

    def _tell(self, seed: int, steps: list[Step], found: Difference) -> None:
        self.differing[found.kind] += 1
        if len(self.told) >= MOST_TOLD or self.differing[found.kind] > 2:
            return
        least = self.runner.shrink(steps, found)
        text = told(f"{self.kind} RESP{self.protocol} seed {seed}", least)
        self.told.append(text)
        print(text, flush=True)

    def close(self) -> None:
        self.ours.reset()
        self.theirs.reset()


def told(name: str, found: Difference) -> str:
    """A difference, for people."""
    shown = []
    for connection, words in found.steps:
        line = " ".join(repr(word)[1:] if len(word) < 200 else f"<{len(word)} bytes>" for word in words)
        shown.append((("  @ " if connection else "    ") + line)[:400])
    return "\n".join([
        f"--- {name}: {b' '.join(found.words)[:300]!r}", *shown[-40:], f"  durakv: {str(found.mine)[:600]}",
        f"  peer:   {str(found.other)[:600]}",
    ])  # fmt: skip
