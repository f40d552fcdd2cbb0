"""The worked example in docs/format.md is what the code writes."""

from __future__ import annotations

import re
from pathlib import Path

from durakv.storage.entries import frame_body
from durakv.storage.record import CONFIG, MARK, NOOP, PAYLOAD, SEAL, FrameBuilder
from durakv.storage.segment import SegmentHeader, parse_segment_header, seal_body

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
