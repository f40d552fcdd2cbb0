"""CLUSTER LOGENTRIES: only what is committed and on disk, in pieces, as durakv-cli repair reads it."""

from __future__ import annotations

from durakv.commands.cluster_log import ENTRIES_BYTES_MAX
from durakv.commands.services import CommittedEntry
from durakv.replication.history import History
from durakv.storage.entries import frame_body
from durakv.storage.record import crc, next_chain
from jstyle.crash.ledger import Ledger
from jstyle.crash.node import Settings, payload
from jstyle.crash.recording import RecordingDisk
from jstyle.crash.scripts import DIRECTORY, EMPTY, Life
from tests.commands.fake_services import FakeNode, error, run


def a_log(count: int = 9, size: int = 400) -> Life:
    life = Life(RecordingDisk(EMPTY), DIRECTORY, Settings(), Ledger())
    life.boot()
    life.vote(1, 7)
    life.append((1, 1, 0, 1, b""), *[payload(index, 1, size) for index in range(2, count + 1)])
    life.settle()
    return life


def facts(reply) -> dict:
    return dict(zip(reply.flat[::2], reply.flat[1::2], strict=True))


def asked(life: Life, committed: int, words: str) -> dict:
    node = FakeNode()
    node.view.history = History(life.node.log, committed, "c" * 32, 3)
    return facts(run(node, node.client(), f"CLUSTER LOGENTRIES {words}"))


def test_entries_with_their_digests():
    life = a_log()
    got = asked(life, 9, "1 1000")
    assert (got[b"cluster"], got[b"group"], got[b"first"], got[b"committed"]) == (b"c" * 32, 3, 1, 9)
    chain = 0
    for row, key in zip(got[b"entries"], life.ledger.histories[-1], strict=True):
        chain = next_chain(chain, key[0], key[1], crc(frame_body(key[3], key[4])))
        assert row == [*key, chain]


def test_what_is_not_committed_or_not_on_disk_is_not_shown():
    life = a_log()
    assert [row[0] for row in asked(life, 5, "4 1000")[b"entries"]] == [4, 5]
    assert asked(life, 5, "6 10")[b"entries"] == []
    life.append(payload(10, 1, 30))
    got = asked(life, 10, "9 10")
    assert ([row[0] for row in got[b"entries"]], got[b"committed"]) == ([9], 9)
    assert asked(life, 9, "3 0")[b"entries"] == []


def test_what_was_dropped_is_not_there_and_the_first_says_so():
    life = a_log(20)
    dropped = life.node.log.drop_through(15, 0)
    life.settle()
    assert dropped > 1
    got = asked(life, 20, "1 100")
    assert got[b"entries"] == []
    assert 1 < got[b"first"] <= 16
    assert asked(life, 20, f"{got[b'first']} 1")[b"entries"][0][0] == got[b"first"]


def test_a_reply_has_a_size():
    asked_for = []

    class Large:
        cluster_id, group_id = "c" * 32, 1

        def first_index(self):
            return 1

        def committed_index(self):
            return 5

        def entries(self, first, count, bytes_max):
            asked_for.append((first, count, bytes_max))
            return [CommittedEntry(first, 1, 0, 0, b"x", 7)]

    node = FakeNode()
    node.view.history = Large()
    run(node, node.client(), "CLUSTER LOGENTRIES 2 3")
    assert asked_for == [(2, 3, ENTRIES_BYTES_MAX)]


def test_a_damaged_entry_is_named():
    life = a_log()
    path = f"{DIRECTORY}/log/dk.00000000000000000001.log"
    disk = life.stage
    content = disk.contents[disk.names[path]]
    life.stop()
    life.boot()
    content[content.find(b"#DK1 Q") + 140] ^= 1
    node = FakeNode()
    node.view.history = History(life.node.log, 9, "c" * 32, 1)
    text = error(node, node.client(), "CLUSTER LOGENTRIES 1 9")
    assert "entry 1 cannot be read here" in text
    assert "ask another member" in text


def test_wrong_arguments_and_a_node_without_a_log():
    node = FakeNode()
    s = node.client()
    assert "index of a log entry" in error(node, s, "CLUSTER LOGENTRIES 0 1")
    assert "index of a log entry" in error(node, s, "CLUSTER LOGENTRIES x 1")
    assert "between 0 and 1000" in error(node, s, "CLUSTER LOGENTRIES 1 1001")
    assert "full member" in error(node, s, "CLUSTER LOGENTRIES 1 1")
