"""What tests of a group with a witness ask of its nodes."""

from __future__ import annotations

import redis

from durakv.cli.client import Client, Unreachable, parse_info
from tests.live.group import Group, Node
from tests.live.load import eventually

# Fast enough for tests, slow enough for a busy machine.
QUICK = ["--election-timeout-ms", "600"]


def info(node: Node) -> dict[str, str]:
    """INFO replication, as text: redis-py would make lists and numbers of some. Raises Unreachable."""
    with Client("127.0.0.1", node.port, timeout_s=10) as client:
        text = client.call("INFO", "replication")
    assert isinstance(text, bytes)
    return parse_info(text.decode())


def command(node: Node, *words: object) -> object:
    """One command through a fresh connection."""
    with node.client() as client:
        return client.execute_command(*words)


def done(node: Node, *words: object) -> None:
    """One command that must answer OK, as soon as the change of members before it is committed."""

    def answered() -> bool:
        try:
            assert command(node, *words) in (b"OK", True)
        except redis.ResponseError as e:
            # A member is shown as what its leader's log makes it, committed or not.
            if "is not committed yet; retry" in str(e):
                return False
            raise
        return True

    eventually(answered, f"{words} is taken")


def refused(node: Node, *words: object) -> str:
    """The text of the error that a command must answer with."""
    try:
        reply = command(node, *words)
    except redis.ResponseError as e:
        return str(e)
    raise AssertionError(f"{words} was answered {reply!r}")


def pinned(node: Node) -> bool:
    """Whether the node leads and says that nobody else could."""
    try:
        return info(node).get("pinned") == "1"
    except Unreachable:
        return False


def at_rest(node: Node, members: str) -> bool:
    """Whether the node leads with exactly these full members in the replication set, the newest write on all."""
    try:
        facts = info(node)
    except Unreachable:
        return False
    copies = str(len(members.split(",")))
    return (facts.get("replication_set"), facts.get("newest_write_copies")) == (members, copies)


def all_back(group: Group) -> Node:
    """Wait until all full nodes hold new writes again; the leader."""
    members = ",".join(str(node.node_id) for node in sorted(group.nodes, key=lambda each: each.node_id))
    eventually(lambda: any(at_rest(node, members) for node in group.nodes), f"{members} are in step", 20)
    return group.leader()


def asked(group: Group) -> int:
    """Questions that all running nodes have sent to the witness since they started."""
    return sum(int(info(node)["witness_messages_sent"]) for node in group.nodes if node.process is not None)
