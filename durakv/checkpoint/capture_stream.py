"""What changed of a stream that is stored node by node, as row changes. [compiled]

Rule: the part of capture.py that knows consumer groups; clears the marks it has written.
"""

from __future__ import annotations

from bisect import bisect_left

from durakv.checkpoint import elements, ops
from durakv.keyspace.values.stream import Stream
from durakv.keyspace.values.streamgroup import Group
from durakv.keyspace.values.touched import TouchedGroup, TouchedStream


def write_stream(out: list[bytes], value: Stream, tracker: TouchedStream) -> None:
    """Nodes and groups that differ from their rows."""
    kid = tracker.kid
    first_ids = value.first_ids
    for first_id in tracker.nodes:
        number = bisect_left(first_ids, first_id)
        if number < len(first_ids) and first_ids[number] == first_id:
            ops.insert_element(out, kid, 0, elements.node_key(first_id), elements.node_value(value.nodes[number]))
        else:
            ops.remove_element(out, kid, elements.node_key(first_id))
    for name, gone in tracker.groups.items():
        for group in gone:
            _remove(out, kid, name, group)
    for name, group in value.groups.items():
        marks = group.tracker
        if marks is None or name in tracker.groups:
            for element, text in elements.group_elements(name, group):
                ops.insert_element(out, kid, 0, element, text)
            group.follow()
        else:
            _update(out, kid, name, group, marks)
    tracker.clear(value.last_id, value.max_deleted_id, value.entries_added)


def _remove(out: list[bytes], kid: int, name: bytes, group: Group) -> None:
    """The rows of a group that went; what it gained or lost since they were written may have none."""
    marks = group.tracker
    if marks is None:
        return
    consumers = dict.fromkeys(group.consumers)
    consumers.update(marks.consumers)
    pending = dict.fromkeys(group.pending)
    pending.update(marks.pending)
    ops.remove_element(out, kid, elements.group_key(name))
    for consumer in consumers:
        ops.remove_element(out, kid, elements.consumer_key(name, consumer))
    for entry_id in pending:
        ops.remove_element(out, kid, elements.pending_key(name, entry_id))


def _update(out: list[bytes], kid: int, name: bytes, group: Group, marks: TouchedGroup) -> None:
    if marks.cursor:
        ops.insert_element(out, kid, 0, elements.group_key(name), elements.group_value(group))
    for consumer_name in marks.consumers:
        consumer = group.consumers.get(consumer_name)
        element = elements.consumer_key(name, consumer_name)
        if consumer is None:
            ops.remove_element(out, kid, element)
        else:
            ops.insert_element(out, kid, 0, element, elements.consumer_value(consumer))
    for entry_id in marks.pending:
        pending = group.pending.get(entry_id)
        element = elements.pending_key(name, entry_id)
        if pending is None:
            ops.remove_element(out, kid, element)
        else:
            ops.insert_element(out, kid, 0, element, elements.pending_value(pending))
    if marks.cursor or marks.consumers or marks.pending:
        marks.clear()
