"""What nodes of one group say of themselves is shown by nodes of every other: host names, zones, TLS ports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.live.test_shards import Shards, ask, everybody_knows, running, wait

pytestmark = pytest.mark.live


def shown(port: int) -> dict[int, tuple[bytes, bytes, int]]:
    """Host name, zone and TLS port of each node by its port, as CLUSTER SHARDS of one node has them."""
    found: dict[int, tuple[bytes, bytes, int]] = {}
    for shard in ask(port, "CLUSTER SHARDS"):
        facts = dict(zip(shard[::2], shard[1::2], strict=True)) if isinstance(shard, list) else shard
        for node in facts[b"nodes"] if b"nodes" in facts else facts["nodes"]:
            one: dict[Any, Any] = dict(zip(node[::2], node[1::2], strict=True)) if isinstance(node, list) else node
            named = {key if isinstance(key, bytes) else key.encode(): value for key, value in one.items()}
            found[int(named[b"port"])] = (
                named.get(b"hostname", b""), named.get(b"availability-zone", b""), int(named.get(b"tls-port", 0)),
            )  # fmt: skip
    return found


def test_every_node_is_described_to_every_group(tmp_path: Path) -> None:
    with running(tmp_path, 2, 2) as shards:
        wait(lambda: everybody_knows(shards))
        ports = [shards.port(group, node) for group in (1, 2) for node in (0, 1)]
        wanted: dict[int, tuple[bytes, bytes, int]] = {}
        for n, port in enumerate(ports):
            wanted[port] = (b"node-%d.example" % n, b"zone-%d" % (n % 2), 20_000 + n)
            ask(port, "CONFIG SET", "cluster-announce-hostname", f"node-{n}.example", "availability-zone",
                f"zone-{n % 2}", "cluster-announce-tls-port", str(20_000 + n))  # fmt: skip
        for port in ports:
            wait(lambda port=port: shown(port) == wanted)
        after_a_failover(shards, ports, wanted)


def after_a_failover(shards: Shards, ports: list[int], wanted: dict[int, tuple[bytes, bytes, int]]) -> None:
    """The next leader knows as much; a zone that cannot be told is none."""
    ids = [member[b"id"] if isinstance(member, dict) else member[1] for member in ask(ports[0], "CLUSTER MEMBERS")]
    leader = shards.status()[0]["leader"]
    other = next(node_id for node_id in ids if node_id != leader)
    shards.run("transfer", "--to", str(other))
    ask(ports[1], "CONFIG SET", "availability-zone", "zone with blanks")
    hostname, _, tls_port = wanted[ports[1]]
    wanted[ports[1]] = (hostname, b"", tls_port)
    for port in ports:
        wait(lambda port=port: shown(port) == wanted)
