"""What CLIENT LIST tells of connections that really work: the request at hand, memory, flags, capabilities."""

from __future__ import annotations

import pytest

from durakv.resp.errors import CommandError
from tests.commands.fake_services import FakeNode, error, run
from tests.commands.reference_server import needs_newer, running
from tests.engine.rig import Client, Rig
from tests.server.fakes import Bench, command


def fields(line: str) -> dict[str, str]:
    return dict(field.split("=", 1) for field in line.split())


def shown(rig: Rig, asker: Client, whom: Client) -> dict[str, str]:
    (reply,) = rig.ask(asker, f"CLIENT LIST ID {whom.session.id}")
    assert isinstance(reply, bytes)
    return fields(reply.decode())


def test_cmd_is_the_request_at_hand_or_the_last_one() -> None:
    rig = Rig()
    a, other = rig.client(), rig.client()
    assert shown(rig, other, a)["cmd"] == "NULL"
    assert shown(rig, other, other)["cmd"] == "client|list"
    rig.ask(a, "SET k 1")
    assert shown(rig, other, a)["cmd"] == "set"
    rig.ask(a, "CONFIG GET maxmemory")
    assert shown(rig, other, a)["cmd"] == "config|get"
    rig.ask(a, "BLPOP q 0", "GET k")
    found = shown(rig, other, a)
    assert (found["cmd"], found["flags"]) == ("blpop", "b")
    rig.ask(other, "RPUSH q 1")
    assert shown(rig, other, a)["cmd"] == "get"
    rig.ask(a, "MULTI", "GET k", "INCRBY k 1")
    found = shown(rig, other, a)
    assert (found["cmd"], found["flags"], found["multi"]) == ("incrby", "x", "2")
    rig.ask(a, "EXEC")
    assert shown(rig, other, a)["cmd"] == "exec"
    # Refused requests were looked up as well; a name without a command leaves the last one.
    rig.ask(a, "MULTI", "SUBSCRIBE", "DISCARD", "NOPE")
    assert shown(rig, other, a)["cmd"] == "discard"


def test_a_renamed_command_is_shown_by_its_own_name() -> None:
    rig = Rig(renames=[("get", "fetch")])
    a, other = rig.client(), rig.client()
    rig.ask(a, "FETCH k")
    assert shown(rig, other, a)["cmd"] == "get"


def test_a_client_whose_watch_was_lost_is_dirty() -> None:
    rig = Rig()
    a, other = rig.client(), rig.client()
    rig.ask(a, "WATCH k")
    assert shown(rig, other, a)["flags"] == "N"
    rig.consensus.follow()
    rig.consensus.lead()
    assert shown(rig, other, a)["flags"] == "d"


def test_capabilities_are_kept_shown_and_filtered_by() -> None:
    node = FakeNode()
    a, b = node.client(), node.client()
    run(node, a, "CLIENT CAPA redirect something-new redirect")
    found = run(node, b, "CLIENT LIST CAPA r")
    assert not isinstance(found, CommandError)
    text = found.text.decode()  # type: ignore[attr-defined]
    assert (text.count("\n"), fields(text)["id"], fields(text)["capa"]) == (1, "1", "r")
    text = run(node, b, "CLIENT LIST NOT-CAPA r").text.decode()  # type: ignore[attr-defined]
    assert (text.count("\n"), fields(text)["id"]) == (1, "2")
    assert error(node, a, "CLIENT LIST CAPA rz") == "ERR Unknown capa found in the provided filter: z"


def test_bytes_that_wait_at_either_end_are_told() -> None:
    bench = Bench()
    connection, stream = bench.connect()
    session = bench.engine.sessions[0]
    connection.on_data(command(b"PING") * 3 + b"*2\r\n$4\r\nECHO\r\n$100\r\nabc")
    assert session.link is connection
    assert session.commands == 3
    waiting, unsent = connection.waiting_bytes()
    assert 0 < waiting < 64 and unsent == 0
    stream.unread = 5000
    assert connection.waiting_bytes() == (waiting, 5000)
    connection.on_close(None)
    assert connection.waiting_bytes() == (0, 0)


def test_memory_of_a_client_adds_up() -> None:
    class Wire:
        def waiting_bytes(self) -> tuple[int, int]:
            return 100, 7000

    node = FakeNode()
    a, b = node.client(), node.client()
    a.link = Wire()
    idle = fields(run(node, b, "CLIENT LIST ID 2").text.decode())  # type: ignore[attr-defined]
    busy = fields(run(node, b, "CLIENT LIST ID 1").text.decode())  # type: ignore[attr-defined]
    assert (busy["qbuf"], busy["omem"], busy["events"]) == ("100", "7000", "rw")
    base = int(idle["tot-mem"]) - int(idle["argv-mem"])
    assert int(idle["argv-mem"]) == len("CLIENTLISTID2")
    assert int(busy["tot-mem"]) == base + 7100


@pytest.mark.live
def test_every_line_is_as_a_stock_server_writes_it() -> None:
    rig = Rig()
    with running() as connect:
        reference = connect()
        needs_newer(reference, "how CLIENT LIST writes its lines")
        a = rig.client()
        for words in ("CLIENT SETNAME me", "CLIENT SETINFO lib-name lib", "SELECT 2", "WATCH k", "CLIENT NO-TOUCH ON",
                      "SUBSCRIBE x", "UNSUBSCRIBE x", "CLIENT NO-EVICT ON"):  # fmt: skip
            assert not isinstance(reference(*words.split()), Exception)
            rig.ask(a, words)
        theirs = fields(reference("CLIENT", "INFO").decode())
        (line,) = rig.ask(a, "CLIENT INFO")
        ours = fields(line.decode())  # type: ignore[attr-defined]
        assert [name for name in ours if name != "capa"] == [name for name in theirs if name != "capa"]
        same = "name db sub psub ssub watch argv-mem multi-mem events cmd user resp lib-name lib-ver"
        assert {name: ours[name] for name in same.split()} == {name: theirs[name] for name in same.split()}
        assert sorted(ours["flags"]) == sorted(theirs["flags"])
