"""How many full nodes hold a write when it is acknowledged: min-data-copies, of interest where a witness can stand in.

Rule: refuses before anything is logged, by the certainty of the moment. A write that was logged before the copy was
lost is answered as unknown if it commits on too few nodes: it is in force here, and no more than that can be said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durakv.engine import failure

if TYPE_CHECKING:
    from durakv.replication.node import GroupNode
    from raft.types import Entry


class DataCopies:
    """One node's watch over min-data-copies."""

    def __init__(self, node: GroupNode) -> None:
        self.node = node

    def certain(self) -> int:
        """Full nodes that hold a write on disk, at least, when it commits as things are."""
        node = self.node
        return node.quorum() - (1 if node.witness.stands_in() else 0)

    def refusal(self) -> str | None:
        """The definite error of a write now; None when enough copies are certain."""
        node = self.node
        wanted = int(node.engine.settings.min_data_copies)
        if wanted < 2 or not node.leading or self.certain() >= wanted:
            return None
        if node.witness.node_id:
            remedy = "bring the other node back and wait until INFO replication says newest_write_copies:2"
        else:
            remedy = "add a node with CLUSTER ADDNODE"
        return (
            f"NOREPLICAS Not enough good replicas to write: only this node would hold it and min-data-copies is "
            f"{wanted}; nothing was logged. Either {remedy}, or CONFIG SET min-data-copies 1"
        )

    def withhold(self, entries: list[Entry]) -> None:
        """Before ``entries`` are applied: whoever waits for one on too few nodes is told that it is unknown."""
        node = self.node
        engine = node.engine
        wanted = int(engine.settings.min_data_copies)
        thin = engine.applier.thin
        if thin:
            thin.clear()
        if wanted < 2:
            return
        for entry in entries:
            if node.core.copies(entry.index) >= wanted:
                continue
            text = (
                f"UNKNOWN committed with one copy while min-data-copies is {wanted}; it is in force, and as safe as "
                "this node's disk until another node has it"
            )
            # Also for parked requests of others that the entry serves.
            thin[entry.index] = text
            batch = engine.proposed.pop(entry.index, None)
            for item in batch.items if batch is not None else ():
                if item.session is not None:
                    failure.answer_all(engine, item.session, text)
                    engine.close_client(item.session)
