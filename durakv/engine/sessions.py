"""Sessions of a node: opened for a connection or for another node's client, closed when that has gone.

Rule: the only place that makes or ends them. What a session proposed still happens; its parked request does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durakv.commands.session import Session
from durakv.engine import parking
from durakv.engine.batch import ITEM_DROP, Item

if TYPE_CHECKING:
    from durakv.engine.blocking import Origin
    from durakv.engine.engine import Engine


def opened(engine: Engine, address: str, local_address: str) -> Session:
    """A new client connection."""
    s = Session(engine.next_id, engine.node_id)
    engine.next_id += 1
    s.uid = engine.boot | s.id
    s.address = address
    s.local_address = local_address
    s.created_ms = s.last_ms = engine.clock.wall_ms()
    s.user = engine.acl.initial_user()
    s.authenticated = s.user is not None
    engine.clients[s.id] = s
    engine.by_origin[(s.origin_node, s.uid)] = s
    return s


def opened_remote(engine: Engine, node_id: int, uid: int) -> Session:
    """The leader's image of a client connected to another node; trusted, its home node checked its rights."""
    s = Session(0, node_id)
    s.uid = uid
    s.user = engine.acl.internal_user()
    # An earlier image may have written for this client.
    s.last_write_index = engine.last_proposed
    s.authenticated = True
    engine.by_origin[(node_id, uid)] = s
    return s


def close(engine: Engine, s: Session) -> None:
    """The connection is gone."""
    if s.closing and s.sink is None:
        return
    s.closing = True
    s.sink = None
    s.held.clear()
    engine.clients.pop(s.id, None)
    engine.waiting_for_leader.pop(s, None)
    engine.pubsub.forget(s)
    engine.tracking.disable(s)
    engine.moving.forget(s)
    engine.instruments.monitors.forget(s)
    if engine.replicas is not None:
        engine.replicas.forget(s)
    origin: Origin = (s.origin_node, s.uid)
    engine.by_origin.pop(origin, None)
    parking.disarm(engine, origin)
    if engine.leading:
        # Pending: a WATCH or a blocking request of this session may be on its way through the log.
        if s.watched or s.blocked or s.pending:
            engine.internal(Item(ITEM_DROP, None, None, [], 0, s.origin_node, s.uid))
    elif s.origin_node == engine.node_id:
        engine.forwarder.drop(s)
