"""Groups as replicated logs, their leaders' drivers, and a network that loses, doubles and reorders what they say.

Real are the keyspace, apply, the drivers and the bytes of messages. A group is its committed log and the suffix its
leader has not committed yet; a crash keeps or drops any part of that. The model is what acknowledged writes made of the
keys; whoever serves a slot, or takes it over, must hold exactly that.
"""

import random

from durakv.checkpoint.capture import Capture
from durakv.checkpoint.frames import FrameReader
from durakv.checkpoint.load import load
from durakv.checkpoint.materialise import Materialiser, found
from durakv.checkpoint.memory_kv import MemoryKv
from durakv.checkpoint.resume import follow
from durakv.cluster.handoff import entries
from durakv.cluster.handoff.actions import Limits
from durakv.cluster.handoff.hub import ADMIT, Handoff
from durakv.cluster.handoff.invariants import Monitor
from durakv.cluster.handoff.messages import of_bytes
from durakv.cluster.handoff.state import FENCED, IMPORTING, OWNED
from durakv.keyspace import journal
from durakv.keyspace.digest import canonical_value, digest
from durakv.keyspace.keyspace import Keyspace
from durakv.keyspace.slots import slot_of
from durakv.keyspace.values.hash import Hash

TAGS = (b"06S", b"Qi", b"450", b"YY", b"wu", b"0TG")
SLOTS_USED = tuple(sorted(slot_of(b"{%b}" % tag) for tag in TAGS))
CLUSTER = b"a-cluster"
DBS = 2


class Violation(Exception):
    pass


def quick_limits():
    limits = Limits()
    limits.batch_bytes = 60
    limits.turn_bytes = 200
    limits.window_bytes = 250
    limits.retry_ms = 40
    limits.election_timeout_ms = 300
    limits.prepare_ms_max = 1500
    limits.resolve_after_ms = 200
    limits.query_after_ms = 200
    limits.pause_ms_max = 1000
    limits.throttle_after_ms = 500
    limits.give_up_after_ms = 3000
    return limits


class Group:
    def __init__(self, world, gid, owned, skew_ms):
        self.world = world
        self.gid = gid
        self.owned = owned
        self.skew_ms = skew_ms
        self.log = []
        self.pend = []
        self.term = 1
        self.down_until_ms = -1
        self.headroom = 1 << 30
        self.fresh()
        self.hub.lead(self.term)

    def fresh(self):
        self.ks = Keyspace(DBS)
        self.ks.listening = True
        world = self.world
        self.hub = Handoff(
            self.ks, self.gid, self.owned, CLUSTER, lambda: world.now_ms, lambda: self.headroom, world.limits
        )
        self.ks.write_down()
        self.kv = MemoryKv()
        found(self.kv, bytes(16), self.gid, DBS)
        self.keeper = Materialiser(self.kv)
        self.capture = Capture(self.ks, self.hub, 0, 1)
        self.name_parts()

    def name_parts(self):
        self.state = self.hub.state
        self.staging = self.hub.staging
        self.exports = self.hub.exports
        self.imports = self.hub.imports
        self.actions = self.hub.actions

    # -- the log ---------------------------------------------------------------------------------------------------

    def commit(self):
        entry = self.pend.pop(0)
        self.log.append(entry)
        self.apply(len(self.log), entry, self.world)

    def apply(self, index, entry, world):
        """``world`` None: replay, where nobody looks on."""
        ks = self.ks
        time_ms = max(entry[0], ks.log_ms)
        ks.now_ms = ks.log_ms = time_ms
        ks.writing = True
        journal.steps.clear()
        ks.changed.clear()
        if entry[1] == "handoff":
            self.apply_handoff(index, entry[2], time_ms, world)
        else:
            self.apply_write(entry, time_ms, world)
        ks.writing = False

    def apply_handoff(self, index, argv, time_ms, world):
        outcome = self.hub.apply(argv, time_ms, index)
        if world is None:
            return
        world.monitor.item(self.gid, index, argv, done=outcome.done)
        world.outcome(self, outcome)
        self.act()

    def apply_write(self, entry, time_ms, world):
        _, verb, db, key, argument = entry
        slot = slot_of(key)
        if verb == "flush":
            if not self.state.may_flush():
                return
            self.ks.dbs[db].flush()
            # The engine hears that a database was emptied and of every key that was in it; the first is enough.
            if world is not None and world.rng.random() < 0.3:
                self.ks.changed.clear()
            for record in self.hub.flushed([db], time_ms):
                if world is not None:
                    world.monitor.flushed(self.gid, record.mid)
            if world is not None:
                world.model_flush(self.gid, db)
            if argument is not None and self.state.serves[slot]:
                # One unit, as in MULTI.
                execute(self.ks, "set", db, key, argument)
                if world is not None and world.counts_for(self, slot, verb):
                    world.model_write("set", db, key, argument, time_ms)
        else:
            if not self.state.serves[slot]:
                return
            execute(self.ks, verb, db, key, argument)
            if world is not None and world.counts_for(self, slot, verb):
                world.model_write(verb, db, key, argument, time_ms)
        if self.hub.listens():
            self.hub.changed(list(self.ks.changed))
        self.ks.changed.clear()
        self.ks.expired_now.clear()
        if world is not None:
            world.writes += 1
            self.act()

    def replayed(self):
        twin = Group.__new__(Group)
        twin.world, twin.gid, twin.owned = self.world, self.gid, self.owned
        twin.fresh()
        for index, entry in enumerate(self.log, 1):
            twin.apply(index, entry, None)
        return twin

    def content(self):
        return digest(self.ks) + self.hub.canonical()

    # -- the leader ------------------------------------------------------------------------------------------------

    def act(self):
        notices, proposals, sent = self.hub.take()
        for notice in notices:
            self.world.count(notice.kind)
        for argv in proposals:
            self.pend.append((self.world.now_ms + self.skew_ms, "handoff", argv))
        for group, blob in sent:
            self.world.net.append((group, blob))
            self.world.history.setdefault(of_bytes(blob, CLUSTER, group)[1].mid, []).append((group, blob))

    def receive(self, blob):
        self.hub.receive(blob)
        self.act()

    def tick(self):
        self.hub.tick()
        self.act()

    def write(self, verb, db, key, argument):
        slot = slot_of(key)
        if verb != "flush" and self.hub.verdict(slot) != ADMIT:
            return
        self.pend.append((self.world.now_ms + self.skew_ms, verb, db, key, argument))

    def crash(self, keep):
        del self.pend[keep:]
        self.term += 1
        self.hub.retire()
        self.hub.lead(self.term)
        self.act()

    def checkpoint(self):
        """Write down what changed, as the engine does now and then."""
        if len(self.log) > self.capture.index:
            reader = FrameReader("frame")
            reader.feed(self.capture.frame(len(self.log), self.term, 0, 0))
            self.keeper.apply(reader.next())
            self.keeper.commit()
        while self.keeper.garbage():
            self.keeper.collect()

    def reload(self):
        """Start again from a checkpoint of where it is."""
        self.checkpoint()
        before = self.content()
        world = self.world
        self.ks = Keyspace(DBS)
        self.ks.listening = True
        aux = []
        loaded = load(self.kv, self.ks, lambda name, blob: aux.append((name, blob)))
        self.ks.log_ms = self.ks.now_ms = loaded.applied.ts_ms
        self.hub = Handoff(
            self.ks, self.gid, self.owned, CLUSTER, lambda: world.now_ms, lambda: self.headroom, world.limits
        )
        self.hub.take_rows(aux)
        self.capture = follow(self.ks, self.hub, loaded)
        self.name_parts()
        if self.content() != before:
            raise Violation("a checkpoint does not give back what was there")
        self.crash(len(self.pend))


def execute(ks, verb, db, key, argument):
    """A client's command on the real keyspace."""
    database = ks.dbs[db]
    if verb == "set":
        database.put(key, argument)
    elif verb == "del":
        database.delete(key)
    elif verb == "append":
        old = database.get(key)
        database.put_keep(key, (old if type(old) is bytes else b"") + argument)
    elif verb == "expire":
        if database.get(key) is not None:
            database.set_expiry(key, argument)
    elif verb == "rename":
        value = database.get(key)
        if value is not None and argument != key:
            at_ms = database.expiry(key)
            database.remove(key)
            database.put(argument, value)
            if at_ms >= 0:
                database.set_expiry(argument, at_ms)
    elif verb == "hset":
        field, text, at_ms = argument
        value = database.get(key)
        if type(value) is not Hash:
            value = Hash()
            database.put(key, value)
        before_ms = -1 if value.deadlines is None else value.deadlines.next_ms()
        value.set(field, text)
        if at_ms >= 0:
            value.set_deadline(field, at_ms)
        database.fields.changed(key, value, before_ms)
        database.touched(key)
    else:
        assert verb == "sweep"
        database.get(key)


class World:
    def __init__(self, seed, groups=2, limits=None):
        self.rng = random.Random(seed)
        self.now_ms = 1000
        self.limits = limits or quick_limits()
        self.net = []
        # Everything that was ever sent about a migration.
        self.history = {}
        self.counts = {}
        self.writes = 0
        self.mids = 0
        self.owner = {}
        self.epoch = dict.fromkeys(SLOTS_USED, 1)
        # Operators take fenced slots back; the migrations whose slots they took.
        self.forces = False
        self.forced = {}
        # (db, key) -> [content, deadline]; content is bytes, or a dict of field -> (text, deadline).
        self.model = {}
        owned = {gid: [] for gid in range(1, groups + 1)}
        for slot in SLOTS_USED:
            gid = self.rng.randint(1, groups)
            owned[gid].append((slot, slot, 1))
            self.owner[slot] = gid
        runs = {gid: tuple(slots) for gid, slots in owned.items()}
        self.monitor = Monitor(runs)
        self.groups = {gid: Group(self, gid, runs[gid], self.rng.randrange(300)) for gid in runs}

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    # -- the model -------------------------------------------------------------------------------------------------

    def live(self, db, key, time_ms):
        """The model's entry as a command that looks at the key finds it; what is due goes."""
        entry = self.model.get((db, key))
        if entry is not None and 0 <= entry[1] <= time_ms:
            del self.model[(db, key)]
            return None
        if entry is not None and type(entry[0]) is dict:
            for field in [field for field, (_, at_ms) in entry[0].items() if 0 <= at_ms <= time_ms]:
                del entry[0][field]
            if not entry[0]:
                del self.model[(db, key)]
                return None
        return entry

    def model_write(self, verb, db, key, argument, time_ms):
        model = self.model
        if verb == "set":
            model[(db, key)] = [argument, -1]
            return
        entry = self.live(db, key, time_ms)
        if verb == "del":
            model.pop((db, key), None)
        elif verb == "append":
            old = entry[0] if entry is not None and type(entry[0]) is bytes else b""
            model[(db, key)] = [old + argument, -1 if entry is None else entry[1]]
        elif verb == "expire" and entry is not None:
            entry[1] = argument
        elif verb == "rename" and entry is not None:
            del model[(db, key)]
            model[(db, argument)] = entry
        elif verb == "hset":
            field, text, at_ms = argument
            if entry is None or type(entry[0]) is not dict:
                entry = model[(db, key)] = [{}, -1]
            entry[0][field] = (text, at_ms)

    def model_flush(self, gid, db):
        for place in [place for place in self.model if place[0] == db and self.owner[slot_of(place[1])] == gid]:
            del self.model[place]

    def counts_for(self, group, slot, verb):
        """Whether what the group executes on the slot is what clients will find."""
        if self.owner[slot] == group.gid:
            return True
        if group.state.epochs[slot] < self.epoch[slot]:
            # Its slot was taken back by force and it has not heard of that yet: what it acknowledges is lost.
            return False
        raise Violation(f"group {group.gid} executes {verb} on slot {slot} of group {self.owner[slot]}")

    def taken_back(self, group, record):
        """From here on what the group has is what counts."""
        self.forced[record.mid] = None
        slots = record.slots()
        for place in [place for place in self.model if slot_of(place[1]) in slots]:
            del self.model[place]
        for place, (content, at_ms) in self.found(group, slots).items():
            self.model[place] = [content, at_ms]
        for slot in slots:
            self.owner[slot] = group.gid
            self.epoch[slot] = group.state.epochs[slot]

    def found(self, group, slots):
        """The group's live keys of these slots, in the model's form."""
        found = {}
        for db in group.ks.dbs:
            for slot in slots:
                for key, value in (db.slots[slot] or {}).items():
                    if type(value) is Hash:
                        value = {field: (text, value.deadline(field)) for field, text in value.fields.items()}
                    else:
                        value = canonical_value(value)[1]
                    found[(db.number, key)] = (value, db.expiry(key))
        return found

    def judge(self, group, slots):
        """The group's live keys of these slots are the model's."""
        wanted = {place: tuple(entry) for place, entry in self.model.items() if slot_of(place[1]) in slots}
        found = self.found(group, slots)
        if found != wanted:
            odd = sorted(place for place in found.keys() | wanted.keys() if found.get(place) != wanted.get(place))
            raise Violation(
                f"group {group.gid} differs at {odd[:3]}: {[found.get(p) for p in odd[:3]]} "
                f"instead of {[wanted.get(p) for p in odd[:3]]}"
            )

    def outcome(self, group, outcome):
        if not outcome.done:
            self.count("refused " + outcome.verb.decode())
            return
        self.count(outcome.verb.decode())
        record = outcome.record
        if outcome.verb == entries.FORCE_ABORT:
            self.taken_back(group, record)
        if outcome.verb != entries.ACTIVATE or record.mid in self.forced:
            return
        source = self.groups[record.peer]
        theirs = source.state.find(record.mid)
        if theirs is None or theirs.phase != FENCED:
            raise Violation("activated while the source is not fenced")
        if group.ks.log_ms < theirs.fenced_ms:
            raise Violation("the target's time is before the source's at its fence")
        for slot in record.slots():
            if self.owner[slot] != source.gid:
                raise Violation(f"slot {slot} was not the source's")
            self.owner[slot] = group.gid
            self.epoch[slot] = group.state.epochs[slot]
        self.judge(group, record.slots())

    # -- what happens ----------------------------------------------------------------------------------------------

    def random_write(self, group):
        rng = self.rng
        tag = rng.choice(TAGS)
        db = rng.randrange(DBS)
        key = b"{%b}%d" % (tag, rng.randrange(4))
        self.writes += 1
        text = b"%d." % self.writes
        choice = rng.random()
        later_ms = self.now_ms + rng.choice((20, 200, 100_000))
        if choice < 0.3:
            group.write("set", db, key, text)
        elif choice < 0.45:
            group.write("append", db, key, text)
        elif choice < 0.6:
            group.write("del", db, key, None)
        elif choice < 0.7:
            group.write("expire", db, key, later_ms)
        elif choice < 0.8:
            group.write("rename", db, key, b"{%b}%d" % (tag, rng.randrange(4)))
        elif choice < 0.95:
            group.write("hset", db, key, (b"f%d" % rng.randrange(3), text, rng.choice((-1, later_ms))))
        elif choice < 0.98:
            group.write("sweep", db, key, None)
        else:
            group.write("flush", db, key, rng.choice((None, text)))

    def migrate(self, group):
        """Begin to move one or a few of the group's slots somewhere else."""
        rng = self.rng
        mine = [slot for slot in SLOTS_USED if group.state.own[slot] == OWNED]
        others = [gid for gid in self.groups if gid != group.gid]
        if not mine:
            return
        picked = sorted(rng.sample(mine, rng.randint(1, min(3, len(mine)))))
        self.mids += 1
        mid = b"%040x" % (rng.getrandbits(96) << 32 | self.mids)
        runs = tuple((slot, slot, group.state.epochs[slot]) for slot in picked)
        group.exports.begin(mid, rng.choice(others), runs)
        group.act()

    def deliver(self):
        rng = self.rng
        at = rng.randrange(len(self.net)) if rng.random() < 0.5 else 0
        fate = rng.random()
        gid, blob = self.net[at]
        if fate < 0.92:
            self.net.pop(at)
        if fate > 0.06 and self.groups[gid].down_until_ms < self.now_ms:
            self.groups[gid].receive(blob)
        if len(self.net) > 300:
            del self.net[: rng.randrange(200)]

    def take_back(self, group):
        """An operator has lost patience with a fence."""
        fenced = [record.mid for record in group.state.records.values() if record.phase == FENCED]
        if fenced and self.forces:
            group.pend.append((self.now_ms, "handoff", entries.force_abort(self.rng.choice(fenced))))

    def haunt(self):
        """All that was ever said about some migration comes again, in order."""
        if self.history:
            mid = self.rng.choice(list(self.history))
            self.count("haunted")
            self.net += self.history[mid][-100:]

    def step(self):
        rng = self.rng
        self.now_ms += rng.randrange(6)
        group = self.groups[rng.randint(1, len(self.groups))]
        dice = rng.random()
        if dice < 0.4:
            if self.net:
                self.deliver()
            return
        if group.down_until_ms >= self.now_ms:
            return
        if dice < 0.7:
            if group.pend:
                group.commit()
        elif dice < 0.85:
            self.random_write(group)
        elif dice < 0.96:
            group.tick()
        elif dice < 0.975:
            self.migrate(group)
        elif dice < 0.98:
            for mid in list(group.exports.drivers):
                group.exports.cancel(mid, self.now_ms)
            group.act()
        elif dice < 0.994:
            self.count("crash")
            group.crash(rng.randint(0, len(group.pend)))
        elif dice < 0.995:
            group.checkpoint()
        elif dice < 0.996:
            group.reload()
        elif dice < 0.998:
            self.haunt()
        elif dice < 0.9995:
            self.take_back(group)
        else:
            group.down_until_ms = self.now_ms + rng.randrange(1500)

    def settle(self, rounds=3000):
        """No more faults and no more migrations: everything must come to its end."""
        for group in self.groups.values():
            group.down_until_ms = -1
        for _ in range(rounds):
            self.now_ms += 10
            while self.net:
                gid, blob = self.net.pop(0)
                self.groups[gid].receive(blob)
            for group in self.groups.values():
                while group.pend:
                    group.commit()
                group.tick()
            if not self.net and not any(group.pend or group.state.records for group in self.groups.values()):
                return
        open_ones = [
            (group.gid, [record.to_words()[:2] for record in group.state.records.values()])
            for group in self.groups.values()
        ]
        raise Violation(f"not everything ends: {open_ones}")

    def verdict(self, replay):
        """All that must hold in the end."""
        broken = self.monitor.violations()
        claims = {slot: [] for slot in SLOTS_USED}
        for group in self.groups.values():
            for slot in SLOTS_USED:
                if group.state.own[slot] == OWNED:
                    claims[slot].append(group.gid)
                elif group.state.own[slot] == IMPORTING or any(db.slots[slot] for db in group.ks.dbs):
                    broken.append(f"group {group.gid} holds something of slot {slot}, which it does not own")
            if group.staging.areas:
                broken.append(f"group {group.gid} still stages keys")
            while group.staging.step(100):
                pass
        broken += self.monitor.cover(claims)
        if broken:
            raise Violation("; ".join(broken))
        for group in self.groups.values():
            self.judge(group, [slot for slot in SLOTS_USED if self.owner[slot] == group.gid])
            if replay and group.replayed().content() != group.content():
                raise Violation(f"the log of group {group.gid} gives another state when it is replayed")


def episode(seed, groups=2, steps=1200, replay=False, forces=False):
    """Run one; returns the world. Raises Violation."""
    world = World(seed, groups)
    world.forces = forces
    for group in world.groups.values():
        for _ in range(60):
            world.random_write(group)
        while group.pend:
            group.commit()
    for _ in range(steps):
        world.step()
    early = world.monitor.violations()
    if early:
        raise Violation("; ".join(early))
    world.settle()
    world.verdict(replay)
    return world
