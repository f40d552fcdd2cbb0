"""Commands come out whole and in order; an end that a crash explains is told from damage."""

from __future__ import annotations

from random import Random

import pytest

from durakv.aof.manifest import ManifestError
from durakv.aof.parts import OpenPart, open_parts
from durakv.aof.reader import AofFile, DamagedAof
from durakv.rdb.window import WINDOW_BYTES
from tests.rdb.formats import Bytes


def pack(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def read(data: bytes) -> tuple[list[list[bytes]], int]:
    file = AofFile(Bytes(data), "a.aof")
    found = []
    end = 0
    while (command := file.next()) is not None:
        assert command.offset >= end
        end = command.end
        found.append(command.argv)
    return found, file.truncated_at


COMMANDS = [
    [b"SELECT", b"3"], [b"SET", b"k\r\n*1", b"\x00" * 100], [b"MULTI"], [b"RPUSH", b"l", b"", b"b"], [b"EXEC"],
    [b"DEL", b"k"],
]  # fmt: skip


def test_commands_annotations_and_places() -> None:
    data = b"#TS:1700000000\r\n" + b"".join(pack(*argv) for argv in COMMANDS[:3])
    data += b"#an annotation that is long " + b"x" * 300 + b"\n" + b"".join(pack(*argv) for argv in COMMANDS[3:])
    assert read(data) == (COMMANDS, -1)
    file = AofFile(Bytes(data), "a.aof")
    first = file.next()
    assert first is not None
    assert (first.offset, data[first.offset : first.end]) == (16, pack(b"SELECT", b"3"))


def test_an_empty_file_holds_nothing() -> None:
    assert read(b"") == ([], -1)


def test_every_cut_is_a_truncation_at_the_last_whole_command_outside_a_transaction() -> None:
    parts = [pack(*argv) for argv in COMMANDS]
    data = b"".join(parts)
    ends = [sum(map(len, parts[:n])) for n in range(len(parts) + 1)]
    multi = ends[2]
    for size in range(len(data)):
        found, truncated_at = read(data[:size])
        whole = max(n for n, end in enumerate(ends) if end <= size)
        assert found == COMMANDS[:whole]
        if multi < size < ends[5]:
            assert truncated_at == (multi if whole > 2 else ends[whole])
        else:
            assert truncated_at == (-1 if size in ends else ends[whole])


def test_damage_is_not_a_truncation() -> None:
    good = pack(b"SET", b"k", b"v")
    for at in range(len(good)):
        changed = bytearray(good + good)
        changed[at] = 0x3F
        if changed[at] == good[at] or good[at : at + 1] in (b"S", b"E", b"T", b"k", b"v"):
            continue
        with pytest.raises(DamagedAof, match=r"a\.aof: damaged at byte"):
            read(bytes(changed))


@pytest.mark.parametrize("data", [
    b"*0\r\n", b"*99999999\r\n$1\r\na\r\n", b"*1\r\n$-1\r\n", b"*1\r\n$999999999999\r\n", b"PING\r\n", b"\x00" * 200,
    b"*1\r\n$4\r\nPINGxx" + b"y" * 40, b"*1\n" + b"$" + b"1" * 50, b"*-1\r\n",
])  # fmt: skip
def test_hostile_bytes(data: bytes) -> None:
    with pytest.raises(DamagedAof):
        read(data)


def test_arguments_beyond_the_window_and_bounded_memory() -> None:
    random = Random(1)
    commands = [[b"SET", b"k%d" % n, random.randbytes(random.choice([10, 100_000]))] for n in range(150)]
    commands.append([b"SET", b"big", random.randbytes(6 << 20)])
    commands.append([b"DEL", b"big"])
    data = b"".join(pack(*argv) for argv in commands)
    source = Bytes(data)
    file = AofFile(source, "a.aof")
    for argv in commands:
        command = file.next()
        assert command is not None
        assert command.argv == argv
    assert file.next() is None
    assert source.most <= (6 << 20) + WINDOW_BYTES


class Tree:
    """A file system in memory."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def is_directory(self, path: str) -> bool:
        return any(name.startswith(f"{path}/") for name in self.files)

    def listdir(self, path: str) -> list[str]:
        return sorted(name.removeprefix(f"{path}/") for name in self.files if name.startswith(f"{path}/"))

    def open(self, path: str) -> Bytes:
        if path not in self.files:
            raise FileNotFoundError(path)
        return Bytes(self.files[path])


def shown(parts: list[OpenPart]) -> list[tuple[str, bool, bool]]:
    return [(part.path, part.rdb, part.last) for part in parts]


def test_parts_of_a_directory_a_manifest_and_single_files() -> None:
    manifest = b"file a.1.base.rdb seq 1 type b\nfile a.1.incr.aof seq 1 type i\n"
    tree = Tree({"d/a.manifest": manifest, "d/a.1.base.rdb": b"REDIS0009\xff", "d/a.1.incr.aof": b""})
    tree.files["x.rdb"] = b"VALKEY080"
    expected = [("d/a.1.base.rdb", True, False), ("d/a.1.incr.aof", False, True)]
    assert shown(open_parts(tree, "d")) == expected
    assert shown(open_parts(tree, "d/a.manifest")) == expected
    assert shown(open_parts(tree, "x.rdb")) == [("x.rdb", True, True)]
    assert shown(open_parts(tree, "d/a.1.incr.aof")) == [("d/a.1.incr.aof", False, True)]
    del tree.files["d/a.1.incr.aof"]
    with pytest.raises(ManifestError, match=r"names a\.1\.incr\.aof, which is not there"):
        open_parts(tree, "d")
    tree.files["d/b.manifest"] = manifest
    with pytest.raises(ManifestError, match=r"2 manifests \(a\.manifest, b\.manifest\)"):
        open_parts(tree, "d")
    with pytest.raises(ManifestError, match="no manifest"):
        open_parts(Tree({"d/a.aof": b""}), "d")
