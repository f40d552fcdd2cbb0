"""Groups that come and go, as far as no process is needed: who gets which slots, ids, ports, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from durakv.cli import layout, shards
from durakv.cli.layout import LayoutError
from durakv.cli.operations import OperationError
from durakv.cli.program import program
from durakv.cli.slot_moves import evenly, ranges_of


def cluster(root: Path, groups: int) -> list[layout.Cluster]:
    """As `up --shards` leaves it, but for the nodes' data."""
    made: list[layout.Cluster] = []
    for n, share in enumerate(shards.slot_shares(groups)):
        one = layout.plan(root / f"g{n + 1}", 1, 21_000 + 10 * n, ["appendfsync always"], first_id=1000 * n + 1)
        one.cluster_id = "ab" * 16
        one.shard = layout.Shard(n + 1, share, [])
        one.bootstrapped = True
        one.root.mkdir(parents=True)
        one.save()
        made.append(one)
    names = [one.root.name for one in made]
    (root / shards.SHARDS_FILE).write_text(json.dumps({"format": 1, "groups": names}))
    return made


@pytest.mark.parametrize(
    ("slots", "counts", "sizes"),
    [(10, [0, 0], [5, 5]), (6144, [8192, 2048], [0, 6144]), (7, [3, 4, 0], [2, 1, 4]), (0, [1, 2], [0, 0])],
)
def test_slots_are_dealt_out_evenly_in_pieces(slots: int, counts: list[int], sizes: list[int]) -> None:
    shares = evenly(list(range(slots)), counts)
    assert [len(share) for share in shares] == sizes
    assert sorted(slot for share in shares for slot in share) == list(range(slots))
    assert all(len(ranges_of(share)) <= 1 for share in shares)
    assert ranges_of([1, 2, 3, 7, 9, 10]) == [(1, 3), (7, 7), (9, 10)]


def test_a_new_group_has_a_number_ids_and_ports_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = cluster(tmp_path, 2)
    new = shards.add(tmp_path, 1, None, [], "")
    assert new.shard is not None
    assert (new.shard.group, new.shard.slots, new.root.name) == (3, None, "g3")
    assert [(node.node_id, node.port) for node in new.nodes] == [(2001, 21_020)]
    assert new.cluster_id == made[0].cluster_id and new.directives == ["appendfsync always"]
    assert new.shard.seeds == ["127.0.0.1:31000", "127.0.0.1:31010"]
    # Not one of the cluster before it leads itself, but its number is taken.
    assert [one.root.name for one in shards.load(tmp_path)] == ["g1", "g2"]
    shards.joined(tmp_path, new)
    assert [one.root.name for one in shards.load(tmp_path)] == ["g1", "g2", "g3"]
    assert shards.of_group(tmp_path, 1).shard.seeds == ["127.0.0.1:31020"]  # type: ignore[union-attr]
    # A group that left does not give its number to the next one.
    staying = shards.left(tmp_path, new)
    assert [one.root.name for one in staying] == ["g1", "g2"] and staying[0].shard.seeds == []  # type: ignore[union-attr]
    again = shards.add(tmp_path, 1, None, ["appendfsync no"], "")
    assert again.shard is not None
    assert (again.shard.group, again.nodes[0].node_id, again.directives) == (4, 3001, ["appendfsync no"])


def test_which_group_is_meant(tmp_path: Path) -> None:
    cluster(tmp_path, 3)
    assert shards.root_of(tmp_path, 2).name == "g2"
    assert shards.root_of(tmp_path, None, 2001).name == "g3"
    with pytest.raises(OperationError, match="say which one with --group"):
        shards.root_of(tmp_path, None)
    with pytest.raises(LayoutError, match=r"there is no group 9 in .* choose one of 1, 2, 3"):
        shards.root_of(tmp_path, 9)
    with pytest.raises(LayoutError, match="there is no node 7 in"):
        shards.root_of(tmp_path, None, 7)
    single = tmp_path / "g1"
    assert shards.root_of(single, None) == single and shards.root_of(single, None, 7) == single
    with pytest.raises(OperationError, match="holds one group; leave --group out"):
        shards.root_of(single, 1)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["add-shard"], "which owns all slots for good"),
        (["remove-shard", "--group", "1"], "which owns all slots for good"),
        (["add-node", "--group", "1"], "leave --group out"),
    ],
)
def test_a_cluster_of_one_group_stays_one(tmp_path: Path, words: list[str], error: str) -> None:
    layout.plan(tmp_path, 1, 21_000, []).save()
    done = CliRunner().invoke(program, ["cluster", *words, "--dir", str(tmp_path)])
    assert done.exit_code == 1 and error in done.output and "Traceback" not in done.output


def test_refusals_say_what_to_do(tmp_path: Path) -> None:
    cluster(tmp_path, 1)

    def said(*words: str) -> str:
        done = CliRunner().invoke(program, ["cluster", *words, "--dir", str(tmp_path)])
        assert done.exit_code == 1
        return done.output

    assert "is the only one; stop it with `durakv cluster stop" in said("remove-shard", "--group", "1")
    assert "there is no group 5" in said("remove-shard", "--group", "5")
    assert "--base-port 55530 is too high" in said("add-shard", "--nodes", "9", "--base-port", "55530")
