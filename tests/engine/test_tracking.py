"""CLIENT TRACKING: who is told of which change, and that no message overtakes the reply it is about."""

from __future__ import annotations

import pytest

from tests.engine.rig import Client, Rig


class Raw(Client):
    """A RESP3 connection that keeps the bytes it gets."""

    def __init__(self, rig: Rig, protocol: int = 3) -> None:
        super().__init__(rig)
        self.session.protocol = protocol
        self.wire = b""

    def flush(self) -> None:
        self.wire += b"".join(self.session.out)
        self.session.out.clear()

    def take(self) -> bytes:
        self.rig.turn()
        self.flush()
        wire, self.wire = self.wire, b""
        return wire


def told(*keys: bytes) -> bytes:
    body = b"".join(b"$%d\r\n%b\r\n" % (len(key), key) for key in keys)
    return b">2\r\n$10\r\ninvalidate\r\n*%d\r\n" % len(keys) + body


ALL = b">2\r\n$10\r\ninvalidate\r\n_\r\n"
OK = b"+OK\r\n"


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.engine.serving_changed(True, False)
    return rig


def on(rig: Rig, options: str = "", protocol: int = 3) -> Raw:
    client = Raw(rig, protocol)
    client.send(f"CLIENT TRACKING ON {options}")
    assert client.take() == OK
    return client


def do(rig: Rig, client: Client, *commands: str) -> None:
    client.send(*commands)
    rig.commit()


def test_a_key_read_is_told_of_once(rig: Rig) -> None:
    reader, writer = on(rig), Raw(rig)
    do(rig, reader, "GET a")
    assert reader.take() == b"_\r\n"
    do(rig, writer, "SET a 1")
    do(rig, writer, "SET a 2")
    assert reader.take() == told(b"a")
    assert rig.engine.tracking.keys == {}


def test_every_way_a_key_changes(rig: Rig) -> None:
    reader, writer = on(rig), Raw(rig)
    for change in ("SET a 1", "APPEND a x", "DEL a", "RPUSH a x", "LPOP a", "SET a 1 PX 10", "COPY a b", "RENAME b a"):
        do(rig, reader, "EXISTS a b")
        reader.take()
        do(rig, writer, change)
        assert b"invalidate" in reader.take(), change
    do(rig, reader, "GET a")
    reader.take()
    rig.engine.close_session(writer.session)


def test_an_expired_key_is_told_of(rig: Rig) -> None:
    reader, writer = on(rig), Raw(rig)
    do(rig, writer, "SET a 1 PX 5")
    do(rig, reader, "GET a")
    reader.take()
    rig.clock.advance(1000)
    rig.commit()
    assert reader.take() == told(b"a")


def test_a_message_follows_the_reply_of_the_clients_own_write(rig: Rig) -> None:
    client = on(rig)
    do(rig, client, "GET a")
    client.take()
    do(rig, client, "SET a 1", "PING")
    assert client.take() == OK + told(b"a") + b"+PONG\r\n"


def test_noloop_spares_the_writer_alone(rig: Rig) -> None:
    client, other = on(rig, "NOLOOP"), on(rig)
    for c in (client, other):
        do(rig, c, "GET a")
        c.take()
    do(rig, client, "SET a 1")
    assert client.take() == OK
    assert other.take() == told(b"a")
    do(rig, client, "GET a")
    client.take()
    do(rig, other, "SET a 2")
    assert client.take() == told(b"a")


def test_a_read_on_its_way_is_not_overtaken(rig: Rig) -> None:
    """The read waits for its proof; a change in between reaches the client behind the answer."""
    rig.engine.serving_changed(False, False)
    reader, writer = on(rig), Raw(rig)
    reader.send("GET a")
    rig.turn()
    writer.send("SET a 1")
    rig.turn()
    entry = rig.consensus.entries.popleft()
    rig.consensus.committed.append(entry)
    rig.engine.committed([entry])
    assert reader.take() == b""
    rig.prove()
    assert reader.take() == b"$1\r\n1\r\n" + told(b"a")


def test_on_a_follower_what_changes_while_the_leader_answers_is_told_afterwards(rig: Rig) -> None:
    reader = on(rig)
    rig.consensus.follow()
    reader.send("GET a")
    assert rig.forwarder.sent
    rig.engine.tracking.changed([(0, b"a")], None)
    assert reader.take() == b""
    reader.session.pending -= 1
    rig.engine.emit(reader.session, b"$1\r\n0\r\n")
    assert reader.take() == b"$1\r\n0\r\n" + told(b"a")


def test_a_parked_client_is_told_at_once(rig: Rig) -> None:
    reader, writer = on(rig), Raw(rig)
    do(rig, reader, "GET a")
    reader.take()
    do(rig, reader, "BLPOP list 0")
    do(rig, writer, "SET a 1")
    assert reader.take() == told(b"a")
    do(rig, writer, "RPUSH list x")
    assert reader.take() == b"*2\r\n$4\r\nlist\r\n$1\r\nx\r\n"


def test_optin_tracks_the_command_after_caching_yes(rig: Rig) -> None:
    reader, writer = on(rig, "OPTIN"), Raw(rig)
    do(rig, reader, "GET a", "CLIENT CACHING YES", "GET b", "GET c")
    reader.take()
    do(rig, writer, "MSET a 1 b 1 c 1")
    assert reader.take() == told(b"b")
    do(rig, reader, "CLIENT CACHING YES", "MULTI", "GET a", "GET b", "EXEC", "GET c")
    reader.take()
    do(rig, writer, "MSET a 2 b 2 c 2")
    assert reader.take() == told(b"a") + told(b"b")


def test_optout_leaves_out_the_command_after_caching_no(rig: Rig) -> None:
    reader, writer = on(rig, "OPTOUT"), Raw(rig)
    do(rig, reader, "GET a", "CLIENT CACHING NO", "GET b", "GET c")
    reader.take()
    do(rig, writer, "MSET a 1 b 1 c 1")
    assert reader.take() == told(b"a") + told(b"c")


def test_broadcast_by_prefix(rig: Rig) -> None:
    reader, writer = on(rig, "BCAST PREFIX user: PREFIX item:"), Raw(rig)
    own = on(rig, "BCAST NOLOOP")
    do(rig, writer, "MSET user:1 a other b user:2 c")
    assert reader.take() == told(b"user:1", b"user:2")
    assert own.take() == told(b"other", b"user:1", b"user:2")
    do(rig, own, "SET item:1 x")
    assert own.take() == OK
    assert reader.take() == told(b"item:1")


def test_flush_tells_everybody_of_all(rig: Rig) -> None:
    reader, prefix, writer = on(rig), on(rig, "BCAST PREFIX x"), Raw(rig)
    do(rig, writer, "FLUSHALL")
    assert reader.take() == prefix.take() == ALL
    do(rig, writer, "SET a 1")
    do(rig, reader, "GET a")
    reader.take()
    do(rig, writer, "FLUSHDB")
    assert reader.take() == ALL
    assert prefix.take() == ALL


def test_redirection_to_a_subscriber_of_either_protocol(rig: Rig) -> None:
    listener2, listener3, writer = Raw(rig, 2), Raw(rig, 3), Raw(rig)
    reader2 = on(rig, f"REDIRECT {listener2.session.id}", protocol=2)
    reader3 = on(rig, f"REDIRECT {listener3.session.id}", protocol=2)
    do(rig, reader2, "GET a")
    do(rig, writer, "SET a 0")
    assert listener2.take() == b""  # it has not subscribed, and RESP2 has no other way to be told
    listener2.send("SUBSCRIBE __redis__:invalidate")
    listener2.take()
    for reader in (reader2, reader3):
        do(rig, reader, "GET a")
        reader.take()
    do(rig, writer, "SET a 1")
    assert listener2.take() == b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n$1\r\na\r\n"
    assert listener3.take() == told(b"a")
    assert reader2.take() == reader3.take() == b""


def test_a_redirection_to_a_client_that_is_gone(rig: Rig) -> None:
    listener, writer = Raw(rig), Raw(rig)
    gone = listener.session.id
    reader = on(rig, f"REDIRECT {gone}")
    do(rig, reader, "GET a")
    reader.take()
    listener.disconnect()
    do(rig, writer, "SET a 1")
    assert reader.take() == b">2\r\n$21\r\ntracking-redir-broken\r\n:%d\r\n" % gone
    reader.send("CLIENT TRACKINGINFO")
    assert b"broken_redirect" in reader.take()


def test_the_table_is_bounded(rig: Rig) -> None:
    rig.engine.settings.load("tracking-table-max-keys", "2")
    reader = on(rig)
    for key in "abc":
        do(rig, reader, f"GET {key}")
    assert reader.take() == b"_\r\n_\r\n" + told(b"a") + b"_\r\n"
    assert list(rig.engine.tracking.keys) == [b"b", b"c"]


def test_off_reset_and_disconnect_end_it(rig: Rig) -> None:
    clients = [on(rig), on(rig), on(rig, "BCAST PREFIX p")]
    clients[0].send("CLIENT TRACKING OFF")
    clients[1].send("RESET")
    clients[2].disconnect()
    tracking = rig.engine.tracking
    assert (tracking.clients, tracking.prefixes, tracking.keys) == ({}, {}, {})
    assert rig.engine.applier.on_changes is None
    rig.commit()
    assert not rig.ks.listening


def test_reply_off_does_not_silence_messages(rig: Rig) -> None:
    reader, writer = on(rig), Raw(rig)
    do(rig, reader, "GET a", "CLIENT REPLY OFF")
    reader.take()
    do(rig, reader, "GET a")
    do(rig, writer, "SET a 1")
    assert reader.take() == told(b"a")
