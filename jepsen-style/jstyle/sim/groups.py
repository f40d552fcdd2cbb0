"""Several groups of one cluster in one process: they share a timeline, a network, and the slots.

Rule: the only place that puts groups beside each other. Which slots a group owns after its founding is its log's
business and the watcher's (handoff_watch.py); here is only who was founded with what.
"""

from __future__ import annotations

from typing import Final

from durakv.keyspace.slots import SLOTS, slot_of
from durakv.replication import addresses
from durakv.world.ports import StreamHandler
from jstyle.sim.cluster import Cluster, Options, Place
from jstyle.sim.machine import CLIENT_PORT, PEER_PORT, Machine
from jstyle.sim.net import Fabric
from jstyle.sim.timeline import Timeline

# Hash tags of keys that clients use, spread over all slots so that each group begins with some of them.
TAGS: Final = ("06S", "450", "YY", "Qi", "wu", "t5", "t9", "4oi")


def slot_of_tag(tag: str) -> int:
    """The slot of every key that has the tag."""
    return slot_of(b"{%b}" % tag.encode())


class Groups:
    """See the module's text. Group ``g`` is ``clusters[g - 1]``; machines have numbers of their own in all of them."""

    def __init__(self, seed: int, options: Options) -> None:
        self.seed = seed
        self.options = options
        self.timeline = Timeline()
        self.fabric = Fabric(self.timeline, seed, options.net, PEER_PORT)
        count = options.groups
        size = options.nodes + options.spares
        share = SLOTS // count
        seeds = " ".join(f"n{1 + group * size}:{PEER_PORT}" for group in range(count))
        self.clusters: list[Cluster] = []
        for group in range(count):
            last = SLOTS - 1 if group == count - 1 else (group + 1) * share - 1
            founding = addresses.Founding(group + 1, [(group * share, last)])
            directives = {"cluster-enabled": "yes", "group-id": str(group + 1), "cluster-seeds": seeds}
            place = Place(self.timeline, self.fabric, founding, 1 + group * size, directives)
            self.clusters.append(Cluster(seed, options, place))

    @property
    def machines(self) -> list[Machine]:
        """All machines, in order of their numbers."""
        return [machine for cluster in self.clusters for machine in cluster.machines]

    def numbers(self) -> list[int]:
        """The ids of all groups."""
        return list(range(1, len(self.clusters) + 1))

    def group(self, number: int) -> Cluster:
        """The group of that id."""
        return self.clusters[number - 1]

    def group_of(self, number: int) -> int:
        """The id of the group that the machine of that number belongs to."""
        return (number - 1) // (self.options.nodes + self.options.spares) + 1

    def machine(self, number: int) -> Machine:
        """The machine of that number."""
        return self.group(self.group_of(number)).machine(number)

    def number_at(self, host: str) -> int:
        """The number of the machine of that name; 0 when there is none."""
        digits = host.removeprefix("n")
        return int(digits) if digits.isdigit() and 0 < int(digits) <= len(self.machines) else 0

    def dial(self, client: str, number: int, handler: StreamHandler, timeout_ms: int = 1000) -> None:
        """Connect a client host to a machine's client port; the handler speaks RESP bytes."""
        self.fabric.connect(client, self.machine(number).name, CLIENT_PORT, handler, timeout_ms)
