"""Two groups where nothing happens by itself: the first owns slots 0 to 5, the second nothing."""

from durakv.cluster.handoff import source
from durakv.cluster.handoff.messages import Message, of_bytes
from durakv.cluster.handoff.state import FENCED
from durakv.keyspace.slots import slot_of
from tests.cluster.handoff.rig import CLUSTER, Group, World

MID = b"%040x" % 1
KEY = b"{06S}0"
SLOT = slot_of(KEY)
RUNS = ((0, 1, 1),)
TAG = {0: b"06S", 1: b"Qi"}


class Pair(World):
    """Group 1 owns slots 0 to 5, group 2 nothing; nothing happens by itself."""

    def __init__(self, limits=None):
        super().__init__(0, 2, limits)
        self.limits.turn_bytes = 1 << 20
        self.notices = []
        self.groups = {
            1: Group(self, 1, ((0, 5, 1),), 0),
            2: Group(self, 2, (), 0),
        }
        self.monitor.__init__({1: ((0, 5, 1),), 2: ()})
        self.owner = dict.fromkeys(range(6), 1)
        self.epoch = dict.fromkeys(range(6), 1)
        self.s, self.t = self.groups[1], self.groups[2]

    def count(self, what):
        self.notices.append(what)
        super().count(what)

    def begin(self, runs=RUNS, mid=MID):
        self.s.exports.begin(mid, 2, runs)
        self.s.act()
        self.commit(self.s)

    def commit(self, group):
        while group.pend:
            group.commit()

    def fill(self, count=5, size=10):
        for n in range(count):
            self.s.write("set", n % 2, b"{%b}%d" % (TAG[n % 2], n), b"x" * size)
        self.commit(self.s)

    def sent(self):
        """Take what is on the network: (receiver, message)."""
        out = [(gid, of_bytes(blob, CLUSTER, gid)[1]) for gid, blob in self.net]
        self.net.clear()
        return out

    def kinds(self):
        return [message.kind for _, message in self.sent()]

    def deliver_all(self, only=None):
        """Everything on the network, and nothing that it brings about."""
        taken, self.net = self.net, []
        for gid, blob in taken:
            if only is None or gid == only:
                self.groups[gid].receive(blob)

    def run(self, rounds=400, until=None, step_ms=5):
        """One thing after the other, until it has come to that."""
        for _ in range(rounds):
            self.now_ms += step_ms
            for _ in self.things():
                if until is not None and until():
                    return
        assert until is None, "it never came to that"

    def fill_window(self):
        """Turns of the source until it has sent all it may."""
        while self.s.hub.wants_turn():
            self.s.tick()

    def things(self):
        for _ in range(len(self.net)):
            if self.net:
                gid, blob = self.net.pop(0)
                self.groups[gid].receive(blob)
                yield
        for group in (self.s, self.t):
            while group.pend:
                group.commit()
                yield
            group.tick()
            yield

    def say(self, group, kind, **facts):
        """A message to the group as if from the other."""
        message = Message(kind, MID)
        for name, value in facts.items():
            setattr(message, name, value)
        blob = message.to_bytes(CLUSTER, 3 - group.gid, group.gid)
        group.receive(blob)

    def driver(self):
        return self.s.exports.drivers.get(MID)

    def record(self, group):
        return group.state.find(MID)


def verbs(group):
    return [entry[2][0] for entry in group.pend]


def fenced_pair(count=40):
    pair = Pair()
    pair.fill(count)
    pair.begin()
    pair.run(until=lambda: pair.driver().stage == source.FENCING)
    pair.commit(pair.s)
    assert pair.record(pair.s).phase == FENCED
    return pair
