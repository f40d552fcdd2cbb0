"""How a node learns that it is a member no more, also when it was down at the time.

Rule: the only place that judges such word. A leader whose membership is committed tells callers it leaves out; a node
believes that only if the membership is later than its own, for the sender may lag behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durakv.replication.transport import REMOVED

if TYPE_CHECKING:
    from durakv.replication.node import GroupNode


def word(node: GroupNode) -> bytes:
    """The payload of KIND_REMOVED: the index of the membership."""
    return REMOVED.pack(node.core.conf_index)


def tell_strangers(node: GroupNode) -> None:
    """Call once a second: nodes that were down while they were removed dial the group they remember."""
    core = node.core
    if node.leading and max(core.conf_index, core.noop_index) <= core.log.commit:
        node.transport.answer_strangers(core.membership.members(), word(node))


def believed(node: GroupNode, payload: bytes) -> bool:
    """Whether ``payload`` proves that this node was removed. Raises struct.error."""
    (index,) = REMOVED.unpack(payload)
    members = node.core.membership.members()
    return bool(members) and (index > node.core.conf_index or node.node_id not in members)
