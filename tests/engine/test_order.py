"""Replies leave in request order, whatever mix of reads, writes, local commands and transactions was sent."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.rig import Client, Rig


def test_nothing_is_answered_before_commit_and_no_read_before_its_proof() -> None:
    rig = Rig()
    a, b = rig.client(), rig.client()
    a.send("SET k 1")
    b.send("GET k")
    assert a.got() == [] and b.got() == []
    rig.prove()
    assert a.got() == [] and b.got() == [None]
    rig.commit()
    assert a.got() == [b"OK"]
    b.send("GET k")
    assert b.got() == []
    rig.prove()
    assert b.got() == [b"1"]


def test_two_reads_of_one_pipeline_keep_their_order() -> None:
    rig = Rig()
    a = rig.client()
    rig.ask(a, "SET x 1", "SET y 2")
    a.send("GET x", "GET y")
    rig.turn()
    rig.consensus.prove()
    first = a.got()
    rig.settle()
    assert first + a.got() == [b"1", b"2"]


def test_a_read_sent_while_another_sessions_proof_is_out_keeps_its_order() -> None:
    rig = Rig()
    a, b = rig.client(), rig.client()
    rig.ask(a, "SET x 1", "SET y 2")
    b.send("GET x")
    rig.turn()
    a.send("GET x")
    rig.turn()
    a.send("GET y")
    rig.turn()
    rig.consensus.prove()
    rig.consensus.prove()
    rig.settle()
    assert a.got() == [b"1", b"2"]


def test_a_read_between_two_writes_sees_the_first_only() -> None:
    rig = Rig()
    a = rig.client()
    a.send("SET k 1", "GET k", "SET k 2", "GET k", "PING")
    assert a.got() == []
    rig.commit()
    assert a.got() == [b"OK", b"1", b"OK", b"2", b"PONG"]


def test_a_read_behind_a_write_in_flight_waits_for_it_and_not_for_later_writes() -> None:
    rig = Rig()
    a = rig.client()
    a.send("SET k 1")
    rig.turn()
    a.send("GET k")
    rig.turn()
    a.send("SET k 2")
    rig.turn()
    rig.consensus.commit()
    assert a.got() == [b"OK"]
    rig.consensus.commit()
    assert a.got() == [b"1", b"OK"]


def test_the_disk_being_busy_gathers_one_entry() -> None:
    rig = Rig()
    a, b = rig.client(), rig.client()
    a.send("SET k 1")
    rig.turn()
    rig.consensus.busy = True
    a.send("SET k 2")
    rig.turn()
    b.send("INCR n")
    a.send("GET k")
    rig.turn()
    assert len(rig.consensus.entries) == 1
    rig.consensus.busy = False
    rig.engine.turn_end()
    assert len(rig.consensus.entries) == 2
    rig.settle()
    assert (a.got(), b.got()) == ([b"OK", b"OK", b"2"], [1])
    rig.check_follower()


def test_local_commands_and_errors_wait_for_their_turn() -> None:
    rig = Rig()
    a = rig.client()
    a.send("SET k 1", "PING", "NOSUCH", "GET", "SET k", "GET k", "ECHO x")
    assert a.got() == []
    rig.settle()
    replies = a.got()
    assert replies[:2] == [b"OK", b"PONG"] and replies[5:] == [b"1", b"x"]
    assert [str(r)[:3] for r in replies[2:5]] == ["ERR", "ERR", "ERR"]


def test_commands_sent_after_a_transaction_that_selects_use_the_new_database() -> None:
    rig = Rig()
    a = rig.client()
    assert rig.ask(a, "MULTI", "SELECT 3", "SET k 1", "EXEC", "SET j 2", "GET k") == [
        b"OK", b"QUEUED", b"QUEUED", [b"OK", b"OK"], b"OK", b"1",
    ]  # fmt: skip
    assert rig.ks.dbs[3].get(b"j") == b"2"
    rig.check_follower()


def test_reply_off_and_skip_silence_exactly_what_they_say() -> None:
    rig = Rig()
    a = rig.client()
    assert rig.ask(a, "CLIENT REPLY SKIP", "SET k 1", "SET k 2") == [b"OK"]
    assert rig.ask(a, "CLIENT REPLY SKIP", "GET k", "GET k") == [b"2"]
    assert rig.ask(a, "CLIENT REPLY OFF", "SET k 3", "GET k", "PING", "MULTI", "GET k", "EXEC") == []
    assert rig.ask(a, "CLIENT REPLY ON", "GET k") == [b"OK", b"3"]


# One step: (session, requests of one turn) or an event of the world.
REQUESTS = st.sampled_from([
    "SET k {n}", "SET j {n}", "GET k", "GET j", "INCR c", "APPEND k x", "PING {n}", "DEL k", "NOSUCH", "GET",
    "SELECT 1", "SELECT 0", "MULTI", "EXEC", "DISCARD",
    "RPUSH q {n}", "LPOP q", "BLPOP q 0", "WATCH k", "UNWATCH", "MGET k j",
])  # fmt: skip
STEPS = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 2), st.lists(REQUESTS, min_size=1, max_size=5)),
        st.sampled_from(["turn", "commit", "prove", "busy", "free"]),
    ),
    max_size=25,
)


class Stamped(Client):
    """Counts what it asked, and that each answer arrived in the order asked."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(rig)
        self.asked: list[str] = []
        self.answers: list[object] = []

    def take(self) -> None:
        self.answers += self.got()
        assert len(self.answers) <= len(self.asked), "more replies than requests"
        for request, reply in zip(self.asked, self.answers, strict=False):
            if request.startswith("PING"):
                # A number nobody else has: proves which request this reply belongs to.
                assert reply in {request.split()[1].encode(), b"QUEUED"}, (self.asked, self.answers)
            elif request == "GET":
                assert str(reply).startswith("ERR wrong number"), (self.asked, self.answers)
            elif request == "NOSUCH":
                assert str(reply).startswith("ERR unknown command"), (self.asked, self.answers)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_random_pipelines_answer_in_order_and_followers_agree(steps: list[str | tuple[int, list[str]]]) -> None:
    rig = Rig()
    clients = [Stamped(rig) for _ in range(3)]
    n = 0
    for step in steps:
        if isinstance(step, tuple):
            client = clients[step[0]]
            commands = []
            for request in step[1]:
                n += 1
                commands.append(request.format(n=n))
            client.asked += commands
            client.send(*commands)
        elif step == "turn":
            rig.turn()
        elif step == "commit":
            rig.turn()
            rig.consensus.commit()
        elif step == "prove":
            rig.turn()
            rig.consensus.prove()
        else:
            rig.consensus.busy = step == "busy"
            if not rig.consensus.busy and rig.engine.batch.items:
                rig.engine.turn_end()
        for client in clients:
            client.take()
    rig.consensus.busy = False
    rig.engine.turn_end()
    rig.settle()
    # Feed parked readers until everybody is answered.
    feeder = rig.client()
    for db in range(2):
        rig.ask(feeder, f"SELECT {db}")
        for _ in range(60):
            rig.ask(feeder, "RPUSH q wake")
    for client in clients:
        client.take()
        assert len(client.answers) == len(client.asked), (client.asked, client.answers)
        assert client.session.pending == 0 and not client.session.held and not client.session.blocked
        client.disconnect()
    rig.settle()
    assert rig.engine.applier.sessions.idle()
    assert not rig.engine.applier.sessions.watched_by and not rig.engine.applier.sessions.versions
    rig.check_follower()


KEYS = ("k", "j")
SIMPLE = st.one_of(
    st.tuples(st.just("SET"), st.sampled_from(KEYS)),
    st.tuples(st.just("APPEND"), st.sampled_from(KEYS)),
    st.tuples(st.just("GET"), st.sampled_from(KEYS)),
    st.tuples(st.just("DEL"), st.sampled_from(KEYS)),
    st.tuples(st.just("INCR"), st.just("n")),
    st.tuples(st.just("GET"), st.just("n")),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(SIMPLE, min_size=1, max_size=20),
    st.lists(st.sampled_from(["", "turn", "commit", "prove"]), min_size=20, max_size=20),
    st.lists(st.booleans(), min_size=20, max_size=20),
)
def test_one_sessions_pipeline_reads_as_if_run_one_by_one(
    commands: list[tuple[str, str]], events: list[str], noise: list[bool]
) -> None:
    rig = Rig()
    a, other = rig.client(), rig.client()
    model: dict[str, bytes] = {}
    expected: list[object] = []
    for n, (name, key) in enumerate(commands):
        if name == "SET":
            model[key] = b"%d" % n
            expected.append(b"OK")
            a.send(f"SET {key} {n}")
        elif name == "APPEND":
            model[key] = model.get(key, b"") + b"x"
            expected.append(len(model[key]))
            a.send(f"APPEND {key} x")
        elif name == "INCR":
            model[key] = b"%d" % (int(model.get(key, b"0")) + 1)
            expected.append(int(model[key]))
            a.send(f"INCR {key}")
        elif name == "DEL":
            expected.append(1 if model.pop(key, None) is not None else 0)
            a.send(f"DEL {key}")
        else:
            expected.append(model.get(key))
            a.send(f"GET {key}")
        if noise[n]:
            # Another session keeps proofs and entries in flight.
            other.send("GET k" if n % 2 else "INCR elsewhere")
        if events[n]:
            rig.turn()
        if events[n] == "commit":
            rig.consensus.commit()
        elif events[n] == "prove":
            rig.consensus.prove()
    rig.settle()
    assert a.got() == expected
