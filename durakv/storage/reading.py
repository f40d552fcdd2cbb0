"""One entry of a segment from the bytes of its frame, believed only when every check fits. [compiled]

Rule: the only place that turns frames back into entries while a node runs; recovery has its own scan, which accepts
less and reports more.
"""

from __future__ import annotations

from durakv.storage.entries import E, EntryFactory, entry_of_frame
from durakv.storage.errors import CorruptionError
from durakv.storage.record import HEADER_BYTES, crc, parse_header
from durakv.storage.segment import Segment


def decoded(segment: Segment, data: bytes, begin: int, index: int, term: int, make: EntryFactory[E]) -> E:
    """Entry ``index`` of ``segment``, whose bytes from offset ``begin`` on are ``data``; ``term`` says the log.

    Raises CorruptionError when what the disk returned is not what was written.
    """
    offset = segment.offsets[index - segment.base]
    at = offset - begin
    header = parse_header(data[at : at + HEADER_BYTES], segment.header.salt)
    if header is None:
        raise CorruptionError(segment.path, offset, f"frame header of index {index} is damaged")
    if header.index != index or header.offset != offset or header.seg != segment.number & 0xFFFF:
        raise CorruptionError(segment.path, offset, f"frame of index {header.index} lies where {index} belongs")
    body = data[at + HEADER_BYTES : at + HEADER_BYTES + header.body_len]
    if len(body) != header.body_len or crc(body) != header.body_crc:
        raise CorruptionError(segment.path, offset, f"body of index {index} fails its checksum")
    content = entry_of_frame(header.kind, body)
    if content is None or header.term != term or header.chain != segment.chains[index - segment.base]:
        raise CorruptionError(segment.path, offset, f"frame of index {index} is not the one that was written")
    return make(index, header.term, header.subterm, content[0], content[1])
