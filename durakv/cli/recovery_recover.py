"""``durakv-cli recover``: what only a person may decide, when there is no group left to ask.

Rule: each verb says what is given up, and what of it nobody can know, before it does anything; nothing happens without
``--yes-lose-data``; what is replaced goes to quarantine/, and a record says who did what. Interrupted at any point,
each can be run again.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Final, NoReturn

import click

from durakv.cli.admin_files import locked, result_file, sync_directory
from durakv.cli.admin_progress import bar
from durakv.cli.recovery_newdir import (
    NewNode,
    founding_of,
    new_cluster_id,
    refuse_lease,
    refuse_silent_mode,
    write_directory,
)
from durakv.cli.recovery_outcome import (
    DATA,
    EXIT_NEEDS_DECISION,
    EXIT_REPAIRED,
    NeedsDecision,
    RecoveryCommand,
    json_option,
    show_json,
    when,
)
from durakv.cli.recovery_quarantine import audit, keep
from durakv.cli.recovery_reach import base_for, time_at
from durakv.cli.recovery_survey import REFUSES, Survey, survey
from durakv.cli.recovery_target import Target
from durakv.cli.recovery_truncate import Decision, give_up
from durakv.founding import GROUP_ID
from durakv.replication import addresses
from durakv.replication.lease_members import kept_config
from durakv.storage.hardstate import HARDSTATE_BYTES, HardState, encode_slot
from durakv.storage.identity import hardstate_path
from durakv.storage.recovery import QUARANTINE, Outcome

_STAGE: Final = "recover.new"
_READY: Final = "ready.json"
# In this order: while IDENTITY is away, log or hard state of either node keep a server from beginning afresh.
_MOVED: Final = ("ckpt", "log", "raft/hardstate", "IDENTITY")


@click.group("recover")
def recover() -> None:
    """Bring back a node whose group is gone, knowingly losing what cannot be known."""


def _finish(told: dict[str, object], lines: list[str], *, as_json: bool, code: int) -> NoReturn:
    if as_json:
        show_json(told)
    else:
        for line in lines:
            click.echo(line)
    sys.exit(code)


yes_option = click.option("--yes-lose-data", is_flag=True, help="Do it; without it only what is given up is shown.")
gone_option = click.option("--others-are-gone", is_flag=True, help="No other member of this group will ever run again.")


# -- a cluster of one --------------------------------------------------------------------------------------------------


@recover.command("unsafe-new-cluster", cls=RecoveryCommand)
@click.argument("data", type=DATA)
@click.option("--this-node", type=click.IntRange(min=1), required=True, help="The id of the node DATA belongs to.")
@click.option(
    "--keep-cluster-id", is_flag=True, help="One of several groups stays in their cluster; needs --others-are-gone."
)
@click.option("--mode", type=click.Choice(["raft"]), help="Said where DATA is of lease mode: it will not be any more.")
@yes_option
@gone_option
@json_option
def unsafe_new_cluster(
    data: Path, this_node: int, keep_cluster_id: bool, mode: str | None, yes_lose_data: bool, others_are_gone: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Make DATA a group of one under a new cluster id, with all that this node holds. The other members must never
    start again as members of this group; the new cluster id keeps them out if they do.
    """
    with locked(data):
        if (data / _STAGE / _READY).exists():
            _finish_swap(data, as_json=as_json)
        with bar("Reading the log", quiet=as_json) as progress:
            found = survey(str(data), progress, live=False, thorough=True)
        refuse_silent_mode(found, mode)
        others, address = _check_new_cluster(found, this_node)
        founding = founding_of(found)
        _check_kept(found, founding, keep_cluster_id=keep_cluster_id, others_are_gone=others_are_gone)
        told, lines = _given_up(found, others, kept=keep_cluster_id)
        if founding is not None:
            told["group"] = founding.group
            lines += _of_several(founding, kept=keep_cluster_id)
        if not yes_lose_data:
            lines.append("Nothing was changed; to go on add --yes-lose-data")
            _finish(told, lines, as_json=as_json, code=EXIT_NEEDS_DECISION)
        term = max(found.last_term, found.hard.term if found.hard is not None else 0) + 1
        cluster_id = found.cluster_id if keep_cluster_id else new_cluster_id()
        node = NewNode(cluster_id, this_node, address, term, founding)
        stage = data / _STAGE
        # What an interrupted run left before it was ready.
        shutil.rmtree(stage, ignore_errors=True)
        with bar("Writing", quiet=as_json) as progress:
            write_directory(found, Target(found.last_good, 0, "the last entry"), stage, node, progress)
        (stage / "LOCK").unlink(missing_ok=True)
        told |= {"cluster": node.cluster_id.hex(), "term": term, "kept_in": _free_name(data)}
        with result_file(stage / _READY, force=True) as sink:
            sink.write(json.dumps({**told, "lines": lines}).encode())
        _finish_swap(data, as_json=as_json)


def _check_new_cluster(found: Survey, this_node: int) -> tuple[list[int], addresses.Address]:
    """The members that are given up, and where this node listens. Raises NeedsDecision."""
    directory = found.directory
    stops = [finding for finding in found.findings if finding.stops and not finding.path.startswith("raft")]
    if stops:
        raise NeedsDecision(
            f"{directory}: {stops[0].line()}. Restore what can be read into a new directory instead, which is a "
            f"cluster of its own as well: 'durakv-cli restore {directory} --out NEWDIR'"
        )
    if found.node_id != this_node:
        raise NeedsDecision(f"{directory}: belongs to node {found.node_id}, not {this_node}; name the right directory")
    m = found.membership
    if m is None:
        raise NeedsDecision(f"{directory}: no membership can be read; 'durakv-cli restore {directory} --out NEWDIR'")
    book = addresses.decode(m.context) if m.context else {}
    witness = m.witness_id()
    known = [*m.voters, *m.voters_outgoing, *m.learners, *([witness] if witness else [])]
    founding = founding_of(found)
    newest = kept_config(found.disk, directory, founding.group if founding is not None else GROUP_ID)
    if found.is_lease() and newest is not None:
        # Its log has only how the group was founded.
        known += newest.members()
        book |= addresses.decode(newest.context)
    others = sorted({node for node in known if node != this_node})
    address = book.get(this_node)
    if address is None:
        raise NeedsDecision(
            f"{directory}: the membership of index {found.configuration_index} has no address of node {this_node}; "
            f"'durakv-cli restore {directory} --out NEWDIR --node-id {this_node} --address HOST:PORT'"
        )
    return others, address


def _check_kept(
    found: Survey, founding: addresses.Founding | None, *, keep_cluster_id: bool, others_are_gone: bool
) -> None:  # fmt: skip
    """Raises NeedsDecision."""
    if not keep_cluster_id:
        return
    if founding is None:
        raise NeedsDecision(f"{found.directory}: is no group of several; leave --keep-cluster-id out")
    if not others_are_gone:
        raise NeedsDecision(
            f"{found.directory}: under the cluster id it has, a majority of the old members would be the same group "
            "once more, beside this one; destroy their directories and add --others-are-gone"
        )


def _of_several(founding: addresses.Founding, *, kept: bool) -> list[str]:
    stays = (
        f"it stays group {founding.group}; slots that moved to it or from it and this node has not heard of: UNKNOWN; "
        "compare CLUSTER SHARDS of all groups"
    )
    if kept:
        return [stays]
    leaves = (
        "given up: the other groups of its cluster, which a new cluster id keeps out as well; --keep-cluster-id keeps "
        "it among them"
    )
    return [stays, leaves]


def _given_up(found: Survey, others: list[int], *, kept: bool) -> tuple[dict[str, object], list[str]]:
    last = found.last_good
    last_ms = time_at(found, base_for(found, last), last)
    unknown_from = min(found.known_committed, last) + 1
    told: dict[str, object] = {
        "directory": found.directory, "given_up": others, "last_index": last, "last_term": found.last_term,
        "last_time_ms": last_ms, "known_committed": min(found.known_committed, last),
        "lost": "UNKNOWN" if others else 0, "done": False,
    }  # fmt: skip
    if not others:
        gets = "keeps its cluster id" if kept else "gets a new cluster id"
        return told, [f"{found.directory}: the only member of its group already; it {gets}"]
    fenced = "nothing fences them" if kept else "fenced by the new cluster id"
    lines = [
        f"given up: nodes {', '.join(map(str, others))} (must never start again; {fenced})",
        f"last index here {last:,}, term {found.last_term}, written {when(last_ms)}",
        f"writes other members acknowledged beyond this: UNKNOWN; possible since {when(last_ms)}",
    ]
    if unknown_from <= last:
        lines.append(
            f"included: {last - unknown_from + 1:,} entries this node did not know to be committed (from "
            f"{unknown_from:,}); the group may have replaced them by others: UNKNOWN"
        )
    return told, lines


def _free_name(data: Path) -> str:
    number = 1
    while (path := data / QUARANTINE / f"before-recover-{number:04d}").exists():
        number += 1
    return str(path)


def _finish_swap(data: Path, *, as_json: bool) -> NoReturn:
    """Put the staged files in place of the old ones; each step is one rename, and what is done is not done again."""
    stage = data / _STAGE
    told = json.loads((stage / _READY).read_bytes())
    lines = told.pop("lines")
    kept = Path(told["kept_in"])
    (kept / "raft").mkdir(parents=True, exist_ok=True)
    sync_directory(data / QUARANTINE)
    if (stage / "IDENTITY").exists() and (data / "IDENTITY").exists() and not (kept / "IDENTITY").exists():
        (data / "IDENTITY").rename(kept / "IDENTITY")
        sync_directory(kept)
        sync_directory(data)
    (data / "raft").mkdir(exist_ok=True)
    for name in _MOVED:
        old, new = data / name, stage / name
        if not (new.exists() or (name == "ckpt" and (stage / "log").exists())):
            continue
        if old.exists() and not (kept / name).exists():
            if name == "raft/hardstate":
                # There is one at any time.
                (kept / name).hardlink_to(old)
            else:
                old.rename(kept / name)
            sync_directory((kept / name).parent)
        if new.exists():
            new.rename(old)
        sync_directory(old.parent)
    record = audit(data, "recover", {"verb": "unsafe-new-cluster", **{k: told[k] for k in told if k != "done"}})
    shutil.rmtree(stage)
    sync_directory(data)
    told |= {"done": True, "audit": record}
    lines += [
        f"wrote membership of one, term {told['term']}, cluster {told['cluster']}",
        "a configuration that names another cluster-id must name this one, or none",
        f"Kept: {kept}", f"Record: {record}",
    ]  # fmt: skip
    _finish(told, lines, as_json=as_json, code=EXIT_REPAIRED)


# -- the hard state ----------------------------------------------------------------------------------------------------


@recover.command("hardstate", cls=RecoveryCommand)
@click.argument("data", type=DATA)
@yes_option
@gone_option
@json_option
def hardstate(data: Path, yes_lose_data: bool, others_are_gone: bool, as_json: bool) -> None:
    """Write the hard state of a group of one again from its log, when both slots are damaged or the file is gone."""
    with locked(data):
        with bar("Reading the log", quiet=as_json) as progress:
            found = survey(str(data), progress, live=False)
        if found.hard is not None:
            told = {"directory": str(data), "done": False}
            _finish(told, [f"{data}: its hard state can be read; nothing to do"], as_json=as_json, code=0)
        refuse_lease(found)
        _check_hardstate(found, others_are_gone=others_are_gone)
        # One more than any term it may have voted in as far as the log knows: it never votes in that term.
        term, last = found.last_term + 1, found.last_good
        lines = [
            (
                f"hard state of node {found.node_id}: term {term}, no vote; the log ends at index {last:,} term "
                f"{found.last_term}"
            ),
            (
                "given up: its term, its vote, and the proof of what was synced: were entries lost behind index "
                f"{last:,} together with the hard state, nothing shows it any more: UNKNOWN"
            ),
        ]
        told = {"directory": str(data), "term": term, "last_index": last, "lost": "UNKNOWN", "done": False}
        if not yes_lose_data:
            lines.append("Nothing was changed; to go on add --yes-lose-data")
            _finish(told, lines, as_json=as_json, code=EXIT_NEEDS_DECISION)
        kept = _write_hardstate(data, found, term, last)
        record = audit(data, "recover", {"verb": "hardstate", **told, "kept": kept})
    told |= {"done": True, "kept": kept, "audit": record}
    _finish(told, [*lines, *(f"Kept: {path}" for path in kept), f"Record: {record}"], as_json=as_json,
            code=EXIT_REPAIRED)  # fmt: skip


def _check_hardstate(found: Survey, *, others_are_gone: bool) -> None:
    """Raises NeedsDecision."""
    if found.is_backup:
        raise NeedsDecision(f"{found.directory}: is a backup, which has none; use 'durakv-cli restore'")
    stops = [finding for finding in found.findings if finding.stops and not finding.path.startswith("raft")]
    if stops:
        raise NeedsDecision(
            f"{found.directory}: {stops[0].line()}. Not only the hard state is damaged; restore what can be read: "
            f"'durakv-cli restore {found.directory} --out NEWDIR'"
        )
    if not found.names_only_itself() and not others_are_gone:
        raise NeedsDecision(
            f"{found.directory}: this node belongs to a group ({found.membership!r}) and may have forgotten a vote: "
            "with a second vote in the same term there could be two leaders. Remove the member and add it again under "
            "a new node id; if no other member will ever run again, 'durakv-cli recover unsafe-new-cluster' makes it a "
            "group of one, or add --others-are-gone"
        )


def _write_hardstate(data: Path, found: Survey, term: int, last: int) -> list[str]:
    path = Path(hardstate_path(str(data)))
    kept = []
    if path.exists():
        kept.append(keep(data, path, "hardstate-damaged", 0, path.stat().st_size))
    state = HardState(found.cluster_id, term=term, commit_hint=last, synced_hint=last)
    image = bytearray(HARDSTATE_BYTES)
    for slot in (0, 1):
        image[slot * 4096 : slot * 4096 + 512] = encode_slot(state, 1 + slot)
    path.parent.mkdir(exist_ok=True)
    with result_file(path, force=True) as sink:
        sink.write(bytes(image))
    sync_directory(data)
    return kept


# -- a damaged end of the log ------------------------------------------------------------------------------------------


@recover.command("accept-tail", cls=RecoveryCommand)
@click.argument("data", type=DATA)
@yes_option
@gone_option
@json_option
def accept_tail(data: Path, yes_lose_data: bool, others_are_gone: bool, as_json: bool) -> None:
    """Accept that the log of DATA ends where it can be read, although something proves that more was synced."""
    with locked(data):
        with bar("Reading the log", quiet=as_json) as progress:
            found = survey(str(data), progress, live=False)
        if found.outcome != REFUSES:
            told: dict[str, object] = {"directory": str(data), "done": False}
            _finish(told, [f"{data}: {found.outcome}; nothing to accept"], as_json=as_json, code=0)
        verdict = found.verdict
        stops = [finding for finding in found.findings if finding.stops]
        only_tail = verdict is not None and verdict.outcome is Outcome.CORRUPT and len(stops) == 1
        if not only_tail or found.identity is None or found.hard is None:
            raise NeedsDecision(
                f"{data}: {stops[0].line()}. This is more than a damaged end of the log. Do: {stops[0].repair}"
            )
        decision = Decision("accept-tail", yes=yes_lose_data, others_are_gone=others_are_gone)
        give_up(found, found.last_good, decision, as_json=as_json)
