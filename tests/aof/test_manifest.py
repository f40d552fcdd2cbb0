"""Manifests of every server since Redis 7 are followed; what would lead elsewhere is refused."""

from __future__ import annotations

import pytest

from durakv.aof.manifest import ManifestError, export_names, parse_manifest


def names(text: bytes) -> list[tuple[str, int, str]]:
    return [(part.name, part.seq, part.kind) for part in parse_manifest(text, "dir/m.manifest")]


def test_base_then_increments_without_history() -> None:
    text = (
        b"# written by hand\nfile a.1.incr.aof seq 1 type h\nfile a.2.incr.aof seq 2 type i\n"
        b"file a.2.base.rdb seq 2 type b\nfile a.5.incr.aof seq 5 type i\n"
    )
    assert names(text) == [("a.2.base.rdb", 2, "b"), ("a.2.incr.aof", 2, "i"), ("a.5.incr.aof", 5, "i")]


def test_quoted_names_and_unknown_pairs() -> None:
    assert names(b'file "my \\"file\\"\\x41.aof" seq 1 type i startoffset 7\n') == [('my "file"A.aof', 1, "i")]
    assert names(b"FILE a SEQ 1 TYPE i\r\n") == [("a", 1, "i")]


@pytest.mark.parametrize(("text", "reason"), [
    (b"", "no file is named"), (b"file a seq 1 type h\n", "no file is named"), (b"file a seq 1 type i", "no end"),
    (b"file a seq 1\n", "it is not 'file NAME"), (b"file a seq 1 type i x\n", "it is not"), (b"\n", "it is not"),
    (b"file ../a seq 1 type i\n", "this directory"), (b"file .. seq 1 type i\n", "this directory"),
    (b"file /etc/passwd seq 1 type i\n", "this directory"), (b"file a seq 0 type i\n", "positive"),
    (b"file a seq -1 type i\n", "positive"), (b"file a seq 1 type x\n", "type 'x' is unknown"),
    (b"file a seq 1 type b\nfile b seq 2 type b\n", "it names a second base"),
    (b"file a seq 2 type i\nfile b seq 2 type i\n", "sequence number 2 does not rise"),
    (b"#" + b"x" * 2000 + b"\nfile " + b"a" * 1100 + b" seq 1 type i\n", "longer than"),
])  # fmt: skip
def test_refused(text: bytes, reason: str) -> None:
    with pytest.raises(ManifestError, match=f"dir/m.manifest: line [0-9]+: .*{reason}"):
        names(text)


def test_what_is_written_is_read() -> None:
    base, increment = export_names("appendonly.aof")
    assert names(base.line() + increment.line()) == [
        ("appendonly.aof.1.base.rdb", 1, "b"), ("appendonly.aof.1.incr.aof", 1, "i"),
    ]  # fmt: skip
