"""A whole group in one process: machines, the network between them, and the timeline, all from one seed.

A group may be one of several (``Place``, see groups.py), which then share timeline and network.
Rule: the only place that puts a simulated group together. ``Options`` says everything that is not drawn from the seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from durakv.commands.table import Table, build_table
from durakv.holder.address import Members, format_members
from durakv.replication import addresses
from durakv.world.ports import StreamHandler
from jstyle.sim.arbiter_host import ARBITER_ID, HOLDER_PORT, ArbiterHost
from jstyle.sim.atlas import MINORITY, Atlas
from jstyle.sim.clock import ClockOptions
from jstyle.sim.disk import DiskOptions
from jstyle.sim.disk_faults import FaultOptions
from jstyle.sim.machine import CLIENT_PORT, PEER_PORT, Machine
from jstyle.sim.net import Fabric, NetOptions
from jstyle.sim.timeline import MS, Timeline
from jstyle.sim.witness_host import WitnessHost


@dataclass
class Options:
    """A run's shape. Ranges are (low, high); a class of faults that is None or zero is off."""

    # Founding voters, and machines that exist but are not members yet; of each group where there are several.
    nodes: int = 3
    spares: int = 0
    # As in a configuration file, without underscores.
    directives: dict[str, str] = field(default_factory=dict)
    net: NetOptions = field(default_factory=NetOptions)
    disk: DiskOptions = field(default_factory=DiskOptions)
    disk_faults: FaultOptions | None = None
    atlas: str = MINORITY
    clock: ClockOptions = field(default_factory=ClockOptions)
    buggify: bool = False
    # Sites that fire each time they are asked, also without ``buggify``; sites that never do.
    buggify_always: tuple[str, ...] = ()
    buggify_never: tuple[str, ...] = ()
    # What the founding group's witness is: "" none, or one of witness_host.KINDS.
    witness: str = ""
    # Nodes keep checkpoints, start from them and forget their log behind them.
    checkpoints: bool = False
    # How many groups share the slots of one cluster; 0: one that knows of no other.
    groups: int = 0
    # Between groups keys go a few at a time.
    small_batches: bool = False
    # Lease mode; its config holder is embedded in the founding nodes, of which one is an arbiter if there is one.
    lease: bool = False
    arbiter: bool = False
    # Clocks may be off by more than lease mode's bound: reads may be old, writes still are not lost.
    beyond_bound: bool = False


@dataclass
class Place:
    """A group's place among others: its founding slots, the number of its first machine, and what all share."""

    timeline: Timeline
    fabric: Fabric
    founding: addresses.Founding
    first: int
    # As in a configuration file, without underscores.
    directives: dict[str, str]


class Cluster:
    """See the module's text. All founding machines are started. ``first`` is the lowest machine's number."""

    def __init__(self, seed: int, options: Options | None = None, place: Place | None = None) -> None:
        self.seed = seed
        self.options = options if options is not None else Options()
        self.timeline = Timeline() if place is None else place.timeline
        self.fabric = Fabric(self.timeline, seed, self.options.net, PEER_PORT) if place is None else place.fabric
        self.place = place
        self.first = 1 if place is None else place.first
        count = self.options.nodes
        self.atlas = Atlas(seed, list(range(self.first, self.first + count)), self.options.atlas)
        # The founding voters have started once; from now on disks may fail.
        self.founded = False
        self._tables: dict[int, Table] = {}
        self.machines = [Machine(self, self.first + n) for n in range(count + self.options.spares)]
        book = {m.node_id: addresses.Address(m.name, CLIENT_PORT, PEER_PORT) for m in self.machines[:count]}
        # Members of the config holder by id; none but in lease mode.
        self.holder_members: Members = {}
        self.arbiter: ArbiterHost | None = None
        if self.options.lease:
            self._found_holder(count)
        self.witness: WitnessHost | None = None
        witness = None
        if self.options.witness:
            self.witness = WitnessHost(self, self.options.witness)
            witness = self.witness.found()
            self.witness.start()
        for machine in self.machines[:count]:
            machine.found(book, witness, None if place is None else place.founding)
            machine.start()
        self.founded = True
        for machine in self.machines:
            if machine.disk.faults is not None:
                machine.disk.faults.enabled = True

    def _found_holder(self, count: int) -> None:
        self.holder_members = {m.node_id: (m.name, HOLDER_PORT) for m in self.machines[:count]}
        if self.options.arbiter:
            arbiter = self.arbiter = ArbiterHost(self)
            self.holder_members[ARBITER_ID] = (arbiter.name, HOLDER_PORT)
            arbiter.found()
            arbiter.start()

    def lease_directives(self) -> dict[str, str]:
        """What a node of lease mode has in its configuration file; nothing in Raft mode."""
        if not self.holder_members:
            return {}
        return {"replication-mode": "lease", "holder-members": " ".join(format_members(self.holder_members))}

    def peer_names(self) -> list[str]:
        """Every host that nodes talk to: the nodes' own, and the witness's or the arbiter's."""
        names = [machine.name for machine in self.machines]
        if self.arbiter is not None:
            names.append(self.arbiter.name)
        return names if self.witness is None else [*names, self.witness.name]

    def table(self, number: int) -> Table:
        """A machine's own command table: it counts calls."""
        table = self._tables.get(number)
        if table is None:
            table = self._tables[number] = build_table()
        return table

    def machine(self, number: int) -> Machine:
        """The machine of that number: the node id it was founded with."""
        return self.machines[number - self.first]

    def running(self) -> list[Machine]:
        """Machines with a process, in order of id."""
        return [m for m in self.machines if m.app is not None]

    def leader(self) -> Machine | None:
        """The machine that leads in the newest term any running machine leads in; None when none does."""
        found: Machine | None = None
        term = -1
        for machine in self.machines:
            app = machine.app
            if app is not None and app.engine.leading and app.engine.term > term:
                found, term = machine, app.engine.term
        return found

    def leader_serves(self) -> bool:
        """Whether some leader has applied its own first entry, so that it may answer."""
        machine = self.leader()
        if machine is None or machine.app is None:
            return False
        engine = machine.app.engine
        return 0 < engine.term_start <= engine.applier.applied

    def wait_leader(self, ms: int = 20_000) -> Machine:
        """Let time pass until a leader serves. Raises AssertionError after ``ms``."""
        if not self.leader_serves():
            found = self.timeline.run_for(ms * MS, self.leader_serves)
            assert found, f"no leader within {ms} ms"
        machine = self.leader()
        assert machine is not None
        return machine

    def run(self, ms: int, until: Callable[[], bool] | None = None) -> bool:
        """Let ``ms`` pass, or less when ``until`` comes true; returns whether it did."""
        return self.timeline.run_for(ms * MS, until)

    def dial(self, client: str, number: int, handler: StreamHandler, timeout_ms: int = 1000) -> None:
        """Connect a client host to a machine's client port; the handler speaks RESP bytes."""
        self.fabric.connect(client, self.machine(number).name, CLIENT_PORT, handler, timeout_ms)
