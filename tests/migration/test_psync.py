"""The conversation with the source, however its bytes are cut."""

from __future__ import annotations

from typing import Any

import pytest

from durakv.migration.psync import Psync, Terms

ID = b"a1" * 20


class Heard:
    def __init__(self) -> None:
        self.events: list[object] = []

    def on_full(self, replid: bytes, offset: int) -> None:
        self.events.append(("full", replid, offset))

    def on_file_size(self, size: int) -> None:
        self.events.append(("size", size))

    def on_file(self, data: bytes) -> None:
        self._more("file", data)

    def on_file_end(self) -> None:
        self.events.append("end")

    def on_continue(self, replid: bytes) -> None:
        self.events.append(("continue", replid))

    def on_stream(self, data: bytes) -> None:
        self._more("stream", data)

    def on_refused(self, reason: str) -> None:
        self.events.append(("refused", reason))

    def _more(self, what: str, data: bytes) -> None:
        assert data
        last = self.events[-1] if self.events else None
        if isinstance(last, tuple) and last[0] == what:
            self.events[-1] = (what, last[1] + data)
        else:
            self.events.append((what, data))


def talk(terms: Terms, replies: list[bytes], chunk: int = 1 << 20) -> tuple[list[bytes], list[Any], Psync]:
    """(what was said after each reply, what was heard)."""
    heard = Heard()
    psync = Psync(terms, heard)
    said = [psync.take_output()]
    for reply in replies:
        for at in range(0, len(reply), chunk):
            psync.feed(reply[at : at + chunk])
        said.append(psync.take_output())
    return said, heard.events, psync


def words(said: bytes) -> list[bytes]:
    return said.split(b"\r\n")[2::2]


OK = b"+OK\r\n"


@pytest.mark.parametrize("chunk", [1, 2, 7, 1 << 20])
def test_a_file_of_known_length(chunk: int) -> None:
    replies = [b"+PONG\r\n", OK, OK, OK, b"\n\n+FULLRESYNC " + ID + b" 17\r\n", b"\n\n$5\r\nREDIS*1\r\n$4\r\nPING\r\n"]
    said, heard, psync = talk(Terms(port=7000), replies, chunk)
    assert [words(s) for s in said[:5]] == [
        [b"PING"], [b"REPLCONF", b"listening-port", b"7000"], [b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"],
        [b"REPLCONF", b"version", b"9.0.0"], [b"PSYNC", b"?", b"-1"],
    ]  # fmt: skip
    assert heard == [("full", ID, 17), ("size", 5), ("file", b"REDIS"), "end", ("stream", b"*1\r\n$4\r\nPING\r\n")]
    assert psync.streaming()
    psync.acknowledge(18)
    psync.keep_alive()
    assert psync.take_output() == b"*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$2\r\n18\r\n\n"


@pytest.mark.parametrize("chunk", [1, 3, 39, 40, 41, 1 << 20])
def test_a_file_up_to_a_mark(chunk: int) -> None:
    mark = b"0123456789" * 4
    # Bytes that look like the beginning of the mark.
    body = mark[:30] + b"REDIS" * 30 + mark[:39]
    replies = [b"+PONG\r\n", OK, OK, OK, b"+FULLRESYNC " + ID + b" 0\r\n$EOF:" + mark + b"\r\n" + body + mark]
    _, heard, psync = talk(Terms(), replies, chunk)
    assert heard == [("full", ID, 0), ("size", -1), ("file", body), "end"]
    psync.feed(b"*1\r\n")
    assert heard[-1] == ("stream", b"*1\r\n")


@pytest.mark.parametrize(("line", "replid"), [(b"+CONTINUE\r\n", ID), (b"+CONTINUE " + b"b" * 40 + b"\r\n", b"b" * 40)])
def test_going_on(line: bytes, replid: bytes) -> None:
    said, heard, _ = talk(Terms(position=(ID, 99), address="10.0.0.1"), [b"+PONG\r\n", OK, OK, OK, OK, line + b"xyz"])
    assert words(said[2]) == [b"REPLCONF", b"ip-address", b"10.0.0.1"]
    assert words(said[5]) == [b"PSYNC", ID, b"100"]
    assert heard == [("continue", replid), ("stream", b"xyz")]


def test_logins() -> None:
    said, _, _ = talk(Terms(user="u", password="p w"), [b"-NOAUTH Authentication required.\r\n", OK])
    assert words(said[1]) == [b"AUTH", b"u", b"p w"]
    assert words(said[2])[0] == b"REPLCONF"
    said, _, _ = talk(Terms(password="p"), [b"+PONG\r\n"])
    assert words(said[1]) == [b"AUTH", b"p"]
    # Before 6.0.
    said, _, _ = talk(Terms(password="p"), [b"-ERR operation not permitted\r\n"])
    assert words(said[1]) == [b"AUTH", b"p"]


def test_old_servers_that_know_no_capabilities_go_on() -> None:
    said, heard, _ = talk(Terms(), [b"+PONG\r\n", OK, b"-ERR Unrecognized REPLCONF option: capa\r\n", b"-ERR no\r\n"])
    assert words(said[4]) == [b"PSYNC", b"?", b"-1"]
    assert not heard


@pytest.mark.parametrize(
    ("replies", "told"),
    [
        ([b"-NOAUTH Authentication required.\r\n"], "masterauth"),
        ([b"-DENIED protected mode\r\n"], "protected mode"),
        ([b"-LOADING Redis is loading the dataset in memory\r\n"], "LOADING"),
        ([b"HTTP/1.1 400 Bad Request\r\n"], "HTTP/1.1 400"),
        ([b"x" * 70_000], "no replication protocol"),
        ([b"+PONG\r\n", OK, OK, OK, b"-NOMASTERLINK Can't SYNC while not connected with my master\r\n"], "not ready"),
        ([b"+PONG\r\n", OK, OK, OK, b"-ERR unknown command 'PSYNC'\r\n"], "answers PSYNC with"),
        ([b"+PONG\r\n", OK, OK, OK, b"+FULLRESYNC short 1\r\n"], "answers PSYNC with"),
        ([b"+PONG\r\n", OK, OK, OK, b"+FULLRESYNC " + ID + b" -1\r\n"], "answers PSYNC with"),
        # Nothing was asked to be continued.
        ([b"+PONG\r\n", OK, OK, OK, b"+CONTINUE\r\n"], "answers PSYNC with"),
        ([b"+PONG\r\n", OK, OK, OK, b"+FULLRESYNC " + ID + b" 1\r\n-ERR fork failed\r\n"], "fork failed"),
        ([b"+PONG\r\n", OK, OK, OK, b"+FULLRESYNC " + ID + b" 1\r\n$0\r\n"], "no bytes"),
        ([b"+PONG\r\n", OK, OK, OK, b"+FULLRESYNC " + ID + b" 1\r\n$EOF:short\r\n"], "in place of its file"),
    ],
)
def test_refusals_end_the_conversation_and_say_why(replies: list[bytes], told: str) -> None:
    said, heard, psync = talk(Terms(), replies)
    assert heard[-1][0] == "refused"
    assert told in heard[-1][1]
    assert said[-1] == b""
    count = len(heard)
    psync.feed(b"+OK\r\n$5\r\n")
    assert len(heard) == count


def test_a_wrong_password() -> None:
    _, heard, _ = talk(Terms(password="p"), [b"+PONG\r\n", b"-WRONGPASS invalid username-password pair\r\n"])
    assert "WRONGPASS" in heard[-1][1]
    assert "masteruser" in heard[-1][1]
