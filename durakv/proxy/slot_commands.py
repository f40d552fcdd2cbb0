"""CLUSTER COUNTKEYSINSLOT and GETKEYSINSLOT: asked of the node that serves the slot.

Rule: the only CLUSTER subcommands with a slot for an argument that a plain client may use.
"""

from __future__ import annotations

from durakv.keyspace.slots import SLOTS
from durakv.proxy.task import Call, Task
from durakv.resp.encoder import error_line


class OfSlot(Task):
    """One request about one slot."""

    _call: Call | None = None

    def start(self) -> None:
        """Ask the slot's leader."""
        client = self.client
        text = self.argv[2]
        if not text.isdigit() or len(text) > 5 or int(text) >= SLOTS:
            self.finish(error_line("ERR Invalid slot"))
            return
        call = Call(client.hub, client.profile, self.plan, self.argv, int(text), self._answered, number=client.number)
        self._call = call
        call.start()

    def abandon(self) -> None:
        """See Task."""
        if self._call is not None:
            self._call.cancel()

    def _answered(self, call: Call, wire: bytes) -> None:
        self.finish(wire)
