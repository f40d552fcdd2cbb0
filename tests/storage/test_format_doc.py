"""What docs/format.md shows in bytes is what the code writes."""

from __future__ import annotations

import re
from pathlib import Path

from durakv.checkpoint import ops, rows
from durakv.checkpoint.frames import HEADER_BYTES as FRAME_HEADER_BYTES
from durakv.checkpoint.frames import build_frame
from durakv.checkpoint.images import small
from durakv.checkpoint.place import write_current
from durakv.checkpoint.snapshot_file import HEADER_BYTES as SNAPSHOT_HEADER_BYTES
from durakv.checkpoint.snapshot_file import SnapshotInfo
from durakv.engine import beside
from durakv.keyspace.slots import slot_of
from durakv.storage.entries import frame_body
from durakv.storage.record import CONFIG, MARK, NOOP, PAYLOAD, SEAL, FrameBuilder, crc
from durakv.storage.segment import SegmentHeader, parse_segment_header, seal_body
from durakv.world.real_disk import RealDisk

from .world import CLUSTER


def test_worked_example() -> None:
    text = (Path(__file__).parents[2] / "docs" / "format.md").read_text()
    match = re.search(r"```example\n(.*?)```", text, re.DOTALL)
    assert match is not None
    documented = match.group(1).replace("\n", "\r\n").encode()
    header = SegmentHeader(CLUSTER, 7, 1, 1, 0, 0, 1_700_000_000_000, 0x11223344)
    builder = FrameBuilder(1, header.salt, 256, 0)
    builder.add_entry(NOOP, 1, 1, 0, b"", 0)
    builder.add_entry(PAYLOAD, 2, 1, 0, b"hello", 0, 1_700_000_000_123, 1)
    builder.add_note(MARK, 2, 1, 2, b"")
    builder.add_entry(CONFIG, 3, 2, 0, frame_body(2, b"abc"), 2)
    builder.add_note(SEAL, 3, 2, 2, seal_body(1, 3))
    assert documented == header.encode() + builder.take()
    assert len(documented) == 953
    parsed = parse_segment_header(documented[:256], "p")
    assert (parsed.cluster_id, parsed.node_id, parsed.salt, parsed.created_ms) == (
        CLUSTER,
        7,
        0x11223344,
        1_700_000_000_000,
    )


def _block(name: str) -> str:
    text = (Path(__file__).parents[2] / "docs" / "format.md").read_text()
    match = re.search(rf"```{name}\n(.*?)```", text, re.DOTALL)
    assert match is not None
    return match.group(1)


def test_current(tmp_path: Path) -> None:
    (tmp_path / "ckpt").mkdir()
    disk = RealDisk(lambda job: job())
    write_current(disk, str(tmp_path), 12)
    assert (tmp_path / "ckpt/CURRENT").read_text() == _block("current")
    disk.close()


def test_frame_of_the_effect_stream() -> None:
    out: list[bytes] = []
    ops.put_key(out, 0, slot_of(b"k"), -1, b"k", small(b"hello"))
    frame = build_frame(1, 2, 1, 0, 0x5D00D331, 1_700_000_000_123, 1, b"".join(out))
    documented = bytes.fromhex(_block("frame"))
    assert documented == frame
    # As the table of fields has it.
    assert (documented[:6], int.from_bytes(documented[16:24], "little")) == (b"DKFX1\n", 2)
    assert int.from_bytes(documented[60:64], "little") == crc(documented[:60])


def _fields(section: str) -> list[tuple[int, int]]:
    """(offset, size) of the rows of a section's table of fields; 0 for a size that is left open."""
    text = (Path(__file__).parents[2] / "docs" / "format.md").read_text()
    part = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| (\d*) \|", part, re.MULTILINE)
    return [(int(offset), int(size or 0)) for offset, size in rows]


def test_tables_of_fields_have_no_gaps() -> None:
    frame, snapshot = _fields("Effect stream"), _fields("Snapshot")
    assert [sum(row) for row in frame[:-1]] == [row[0] for row in frame[1:]]
    assert sum(frame[-1]) == FRAME_HEADER_BYTES
    assert [sum(row) for row in snapshot[:-2]] == [row[0] for row in snapshot[1:-1]]
    assert sum(snapshot[-1]) == SNAPSHOT_HEADER_BYTES


def test_snapshot_header() -> None:
    info = SnapshotInfo(CLUSTER, rows.Applied(5, 2, 1, 0x6DA5D187, 1_700_000_000_123), 4096 + 9, b"d" * 32, b"members")
    head = info.header()
    fields = dict(_fields("Snapshot"))
    values = [int.from_bytes(head[at : at + fields[at]], "little") for at in (24, 32, 40, 44, 48, 56, 96)]
    assert values == [5, 2, 1, 0x6DA5D187, 1_700_000_000_123, 9, 7]
    assert (head[8:24], head[64:96], head[98:105]) == (CLUSTER, b"d" * 32, b"members")
    assert int.from_bytes(head[4092:], "little") == crc(head[:4092])


def test_rows_of_meta_and_ops_are_all_named() -> None:
    text = (Path(__file__).parents[2] / "docs" / "format.md").read_text()
    for name in (rows.APPLIED, rows.SUMS, rows.DB_MAP, rows.NEXT, rows.IDENTITY):
        assert f"`{name.decode()}` |" in text
    for op in b"PDIURKMFAX":
        assert f"| `{op:c}` |" in text
    for name in (beside.WAITER, beside.WATCHES, beside.SCRIPT, beside.ORDER, beside.LIBRARIES, beside.USER,
                 beside.MEMBERSHIP, beside.SOURCE):  # fmt: skip
        assert f"`{name.decode()}`" in text
