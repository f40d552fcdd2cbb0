"""durakv-cli log dump, space and bench-disk: what is printed is safe to print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from durakv.cli.recovery_payload import PayloadError, decode_payload
from raft.types import Entry

from .recovery_directory import flip, payload, run, segments, standard_entries, told, tree, words, write_directory


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "data"
    entries = standard_entries(5)
    entries += [
        Entry(6, 2, 0, 0, payload([b"SET", b"user:1", b"\x1b[31m\r\nred\xff"], [b"SET", b"long", b"y" * 5000])),
        Entry(7, 2, 0, 0, payload(words("ACL SETUSER bob on >secret"), words("@db 2"), words("DEL user:1 other"))),
        Entry(8, 2, 0, 0, payload(words("@evict user:2"), words("@tick"))),
    ]
    write_directory(path, entries)
    return path


def lines(result: str) -> list[dict]:
    return [json.loads(line) for line in result.splitlines()]


def test_dump(data: Path) -> None:
    before = tree(data)
    text = run("log", "dump", data)
    assert text.exit_code == 0
    assert text.stdout.isascii()
    assert "\x1b" not in text.stdout
    assert '[0] "SET" "user:1" "\\x1b[31m\\r\\nred\\xff"' in text.stdout
    assert "secret" not in run("log", "dump", data, "--full").stdout
    assert "(5,000 bytes)" in text.stdout
    assert "y" * 5000 in run("log", "dump", data, "--full").stdout
    entries = lines(run("log", "dump", data, "--json").stdout)
    assert [entry["index"] for entry in entries] == list(range(1, 9))
    assert [entry["kind"] for entry in entries[:3]] == ["config", "noop", "payload"]
    assert entries[0]["membership"] == "Membership(voters=[1])"
    assert tree(data) == before


def test_dump_of_a_range_and_of_a_key(data: Path) -> None:
    some = lines(run("log", "dump", data, "--from", 3, "--to", 4, "--json").stdout)
    assert [entry["items"][0]["commands"][0]["keys"] for entry in some] == [["k3"], ["before"]]
    mine = lines(run("log", "dump", data, "--key", "user:*", "--json").stdout)
    assert [entry["index"] for entry in mine] == [6, 7, 8]
    assert [command["argv"][0] for command in mine[1]["items"][0]["commands"]] == ["DEL"]
    assert mine[1]["items"][0]["commands"][0]["db"] == 2
    assert mine[2]["items"][0]["kind"] == "evict"


def test_dump_up_to_damage(data: Path) -> None:
    spot = segments(data)[0].read_bytes().find(b"value-5")
    flip(segments(data)[0], spot)
    try:
        result = run("log", "dump", data, "--json")
        assert result.exit_code == 2
        assert "Stopped before index 5" in result.stderr
        assert [entry["index"] for entry in lines(result.stdout)] == [1, 2, 3, 4]
        assert run("log", "dump", data, "--to", 4).exit_code == 0
    finally:
        flip(segments(data)[0], spot)


def test_no_prefix_or_flip_of_a_payload_is_misread() -> None:
    whole = payload(words("SET a 1"), words("@db 4"), words("DEL a b c"))
    for length in range(len(whole)):
        with pytest.raises(PayloadError):
            decode_payload(whole[:length])
    with pytest.raises(PayloadError):
        decode_payload(whole + b"*1\r\n")
    with pytest.raises(PayloadError, match="unknown control record"):
        decode_payload(payload(words("@future 1")))


def test_space(data: Path) -> None:
    (data / "reserve.dat").write_bytes(b"r" * 10_000)
    try:
        document = told(0, "space", data)
    finally:
        (data / "reserve.dat").unlink()
    rooms = {room["name"]: room for room in document["rooms"]}
    assert rooms["log"]["files"] == len(segments(data))
    assert rooms["reserve"]["bytes"] >= 10_000
    assert document["free_bytes"] > 0
    assert "reserve" in run("space", data).stdout


def test_bench_disk_measures_and_cleans_up(tmp_path: Path) -> None:
    document = told(0, "bench-disk", tmp_path, "--seconds", "0.2")
    assert [result["bytes"] for result in document["results"]] == [200, 4096, 65536, 1048576]
    for result in document["results"]:
        assert 0 < result["p50_us"] <= result["p99_us"] <= result["max_us"]
    assert list(tmp_path.iterdir()) == []
