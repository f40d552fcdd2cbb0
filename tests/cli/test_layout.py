from __future__ import annotations

import json
from pathlib import Path

import pytest

from durakv.cli import layout
from durakv.cli.layout import Cluster, LayoutError, Node, Witness


def test_plan_uses_consecutive_ports(tmp_path: Path) -> None:
    cluster = layout.plan(tmp_path, 3, 7000, [])
    assert [(n.node_id, n.port, n.peer_port) for n in cluster.nodes] == [
        (1, 7000, 17000),
        (2, 7001, 17001),
        (3, 7002, 17002),
    ]
    assert cluster.next_id == 4


def test_plan_refuses_peer_ports_beyond_the_last(tmp_path: Path) -> None:
    layout.plan(tmp_path, 3, 55533, [])
    with pytest.raises(LayoutError, match="at most 55533"):
        layout.plan(tmp_path, 3, 55534, [])


def test_conf_text(tmp_path: Path) -> None:
    root = tmp_path / "a dir"
    cluster = layout.plan(root, 1, 7000, ["maxmemory 1gb"])
    assert layout.conf_text(cluster, cluster.nodes[0]).splitlines()[1:] == [
        "port 7000",
        "peer-port 17000",
        "bind 127.0.0.1",
        f'dir "{root}/n1/data"',
        "maxmemory 1gb",
    ]


def test_conf_text_of_a_joining_node(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, [Node(4, 7003, 17003, joining=True)], [], cluster_id="ab" * 16)
    text = layout.conf_text(cluster, cluster.nodes[0])
    assert f"cluster-id {'ab' * 16}\nnode-id 4\n" in text


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        ([], []),
        (["--maxmemory", "1gb"], ["maxmemory 1gb"]),
        (["--maxmemory=1gb", "--reads", "lease"], ["maxmemory 1gb", "reads lease"]),
        (["--bind", "127.0.0.1", "-::1"], ["bind 127.0.0.1 -::1"]),
        (["--requirepass", 'a "b'], ['requirepass "a \\"b"']),
        (["--save", ""], ['save ""']),
    ],
)
def test_directive_lines(words: list[str], lines: list[str]) -> None:
    assert layout.directive_lines(words) == lines


@pytest.mark.parametrize("words", [["maxmemory", "1gb"], ["--maxmemory"], ["--a", "1", "--b"]])
def test_directive_lines_refuses(words: list[str]) -> None:
    with pytest.raises(LayoutError, match="write `--"):
        layout.directive_lines(words)


def test_cluster_file_round_trip(tmp_path: Path) -> None:
    nodes = [Node(1, 7000, 17000, pid=12, started=34), Node(5, 7001, 17001, joining=True)]
    made = Cluster(tmp_path, nodes, ["reads lease"], cluster_id="cd" * 16, next_id=9, bootstrapped=True)
    made.save()
    read = layout.load(tmp_path)
    assert [node.as_json() for node in read.nodes] == [node.as_json() for node in nodes]
    assert (read.directives, read.cluster_id, read.next_id, read.bootstrapped) == (["reads lease"], "cd" * 16, 9, True)
    assert [path.name for path in tmp_path.iterdir()] == ["cluster.json"]


def test_plan_with_a_witness(tmp_path: Path) -> None:
    cluster = layout.plan(tmp_path, 2, 7000, [], "tcp")
    assert cluster.witness is not None
    assert cluster.witness.as_json() == {
        "id": 3,
        "address": "tcp://127.0.0.1:7002",
        "port": 7002,
        "pid": 0,
        "started": 0,
    }
    assert cluster.next_id == 4
    assert [member.name for member in cluster.processes()] == ["n1", "n2", "w3"]
    elsewhere = layout.plan(tmp_path, 4, 7000, [], "file:///shared/w")
    assert elsewhere.witness is not None
    assert (elsewhere.witness.node_id, elsewhere.witness.port) == (5, 0)
    assert [member.name for member in elsewhere.processes()] == ["n1", "n2", "n3", "n4"]


@pytest.mark.parametrize(
    ("count", "witness", "message"),
    [(1, "tcp", "write --nodes 2 --witness"), (2, "nonsense", "expected tcp://host:port"), (2, "file://x", "absolute")],
)
def test_plan_refuses_a_witness_that_cannot_be(tmp_path: Path, count: int, witness: str, message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        layout.plan(tmp_path, count, 7000, [], witness)


def test_cluster_file_round_trip_with_a_witness(tmp_path: Path) -> None:
    made = Cluster(
        tmp_path, [Node(1, 7000, 17000)], [], witness=Witness(4, "tcp://127.0.0.1:7003", 7003, pid=5, started=6)
    )
    made.save()
    read = layout.load(tmp_path)
    assert read.witness is not None and made.witness is not None
    assert read.witness.as_json() == made.witness.as_json()
    assert read.next_id == 5


def test_a_cluster_file_from_before_there_were_witnesses(tmp_path: Path) -> None:
    layout.plan(tmp_path, 3, 7000, []).save()
    path = tmp_path / layout.CLUSTER_FILE
    document = json.loads(path.read_text())
    del document["witness"]
    path.write_text(json.dumps(document))
    assert layout.load(tmp_path).witness is None


def test_a_removed_nodes_id_is_not_given_again(tmp_path: Path) -> None:
    cluster = layout.plan(tmp_path, 3, 7000, [])
    cluster.nodes.pop()
    cluster.save()
    assert layout.load(tmp_path).next_id == 4


def test_load_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="durakv cluster up --dir"):
        layout.load(tmp_path)
    path = tmp_path / layout.CLUSTER_FILE
    for text in ("", "[]", "{}", '{"format": 1, "nodes": [{}]}'):
        path.write_text(text)
        with pytest.raises(LayoutError, match="damaged"):
            layout.load(tmp_path)
    path.write_text(json.dumps({"format": 2}))
    with pytest.raises(LayoutError, match="format 2"):
        layout.load(tmp_path)


def test_unknown_node_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="choose one of 1, 2, 3"):
        layout.plan(tmp_path, 3, 7000, []).node(4)


def test_only_one_command_changes_a_directory(tmp_path: Path) -> None:
    with layout.locked(tmp_path), pytest.raises(LayoutError, match="wait for it to end"), layout.locked(tmp_path):
        pass
    with layout.locked(tmp_path):
        assert (tmp_path / layout.LOCK_FILE).exists()
