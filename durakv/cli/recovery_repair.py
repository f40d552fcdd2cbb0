"""``durakv-cli repair``: mends what can be mended without losing a write, and refuses the rest by name.

Rule: six things only. A torn tail, of which nothing proves that it was ever synced, is cut by the storage layer's own
recovery, which keeps a copy; IDENTITY is written again when the log's and the hard state's copies of it agree; so is
CURRENT when there is one environment, and it is sound; a checkpoint that cannot be used is moved away when the log has
everything from its first entry; of a segment that is damaged before the checkpoint's end only, what follows is
written anew; and with --from-peer a damaged log is made what it was with entries of another member
(recovery_refill.py). It never shortens what may be committed, and never guesses a vote.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from durakv.checkpoint.place import write_current
from durakv.cli.admin_files import locked, result_file
from durakv.cli.admin_progress import bar, unseen
from durakv.cli.recovery_holes import rewritten
from durakv.cli.recovery_outcome import (
    DATA,
    EXIT_CLEAN,
    EXIT_NEEDS_DECISION,
    EXIT_REPAIRED,
    NeedsDecision,
    RecoveryCommand,
    json_option,
    show_json,
)
from durakv.cli.recovery_peer import Peers
from durakv.cli.recovery_quarantine import audit, keep, move, used_length
from durakv.cli.recovery_refill import Mended, Refill, plan_refill, written_anew
from durakv.cli.recovery_survey import Survey, survey
from durakv.storage.identity import Identity, identity_path, write_identity
from durakv.storage.recovery import Outcome, recover_log
from durakv.storage.scan import SegmentScan
from durakv.world.real_disk import RealDisk
from durakv.world.real_rng import RealRng


class Plan:
    """What may be done. ``lines`` say it to a person, together with what is lost."""

    def __init__(self) -> None:
        self.identity: Identity | None = None
        self.tail = False
        # The number CURRENT is to name, 0 for leaving it as it is.
        self.current = 0
        self.move_checkpoint = False
        self.hole: SegmentScan | None = None
        self.lines: list[str] = []


@click.command("repair", cls=RecoveryCommand)
@click.argument("data", type=DATA)
@click.option("--yes", is_flag=True, help="Do it; without it only the plan is shown.")
@click.option(
    "--from-peer",
    "peers",
    metavar="HOST:PORT[,...]",
    help="Running members of the group: fetch from the first that has them the log entries damaged here.",
)
@click.option("--user", default="", help="User to log in as there, who may use @admin.  [default: the default user]")
@click.option("--password", envvar="DURAKV_PASSWORD", default="", help="Password [env DURAKV_PASSWORD].")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.1, 3600),
    default=10.0,
    show_default=True,
    help="Seconds to wait for an answer of a member.",
)
@json_option
def repair(data: Path, yes: bool, peers: str | None, user: str, password: str, timeout_s: float, as_json: bool) -> None:
    """Mend DATA where that is safe. Exit code 0: nothing to do; 3: repaired; 70: a person must decide."""
    with locked(data):
        with bar("Reading the log", quiet=as_json) as progress:
            found = survey(str(data), progress, live=False, thorough=True)
        refill = Refill() if peers is None else _from_peers(found, peers, user, password, timeout_s)
        plan = Plan() if refill.segments else _plan(found)
        lines = [mended.line() for mended in refill.segments] or plan.lines
        told: dict[str, object] = {
            "directory": str(data), "plan": lines, "done": False,
            "findings": [finding.document() for finding in found.findings],
        }  # fmt: skip
        if not lines:
            _finish(told, [f"Nothing to repair: {found.outcome}"], as_json=as_json, code=EXIT_CLEAN)
        if not yes:
            _finish(told, [*lines, "Nothing was changed; add --yes"], as_json=as_json, code=EXIT_NEEDS_DECISION)
        if refill.segments:
            kept = [path for mended in refill.segments for path in _put_in_place(data, found, mended)]
        else:
            kept = _carry_out(data, found, plan)
        record = audit(data, "repair", {"plan": lines, "kept": kept, "findings": told["findings"]})
        left = _left(data) if refill.segments else []
    told |= {"done": True, "kept": kept, "audit": record, "left": left}
    shown = [*lines, *(f"Kept: {path}" for path in kept), f"Record: {record}"]
    _finish(told, [*shown, *(f"Left, run repair again: {line}" for line in left)], as_json=as_json, code=EXIT_REPAIRED)


def _finish(told: dict[str, object], lines: list[str], *, as_json: bool, code: int) -> None:
    if as_json:
        show_json(told)
    else:
        for line in lines:
            click.echo(line)
    sys.exit(code)


def _left(data: Path) -> list[str]:
    """What a second look finds once the log is whole."""
    found = survey(str(data), unseen, live=False, thorough=True)
    return [finding.line() for finding in found.findings if finding.stops]


def _from_peers(found: Survey, addresses: str, user: str, password: str, timeout_s: float) -> Refill:
    """What of the log other members can mend; empty when the log needs nothing of theirs. Raises NeedsDecision."""
    if found.is_backup:
        raise NeedsDecision(
            f"{found.directory}: is a backup, which no server starts on; 'durakv-cli restore' takes what is missing "
            "from another directory named with --archive"
        )
    votes = [finding for finding in found.findings if finding.stops and finding.path.startswith("raft/")]
    if votes:
        node = found.node_id or "ID"
        raise NeedsDecision(
            f"{votes[0].line()}. No member can say whom this node voted for, and a second vote in the same term can "
            f"make two leaders, so nothing was fetched. Do: 'durakv cluster remove-node {node}', move "
            f"{found.directory} away, 'durakv cluster add-node' under a new node id: it gets checkpoint and log from "
            "the group"
        )
    if not any(finding.stops and finding.path.startswith("log") for finding in found.findings):
        return Refill()
    if found.identity is None:
        found.identity = _identity(found)
    from durakv.founding import GROUP_ID  # loads much that other commands do not need
    from durakv.replication.addresses import decode_founding

    founding = None if found.membership is None else decode_founding(found.membership.context)
    group = GROUP_ID if founding is None else founding.group
    with Peers(addresses, user, password, timeout_s, found.identity.cluster_id, group) as peers:
        refill = plan_refill(found, peers)
    # Damage before the checkpoint's end needs nobody.
    return refill if refill.fetches() or found.hole is None else Refill()


def _plan(found: Survey) -> Plan:
    """Raises NeedsDecision when there is anything that may not be mended here."""
    plan = Plan()
    _plan_checkpoint(found, plan)
    _plan_hole(found, plan)
    for finding in found.findings:
        if not finding.stops or (finding.path.startswith("ckpt/") and (plan.current or plan.move_checkpoint)):
            continue
        if plan.hole is not None and finding.path == found.relative(plan.hole.path):
            continue
        if finding.path == "IDENTITY" and found.files.exists(identity_path(found.directory)):
            plan.identity = _identity(found)
            plan.lines.append(
                f"IDENTITY is damaged: written again as node {plan.identity.node_id} of cluster "
                f"{plan.identity.cluster_id.hex()}, as each of {len(found.scans)} segments and the hard state say; the "
                "creation time becomes that of the first segment; nothing is lost"
            )
            continue
        raise NeedsDecision(
            f"{finding.line()}. This cannot be repaired here, nothing was changed. Do: {finding.repair}"
        )
    verdict = found.verdict
    if verdict is not None and verdict.outcome is Outcome.TORN_TAIL:
        plan.tail = True
        scan = found.scans[-1]
        size = used_length(Path(scan.path), scan.end) - scan.end
        plan.lines.append(
            f"{scan.path.rpartition('/')[2]} offset {scan.end:#x}: {size:,} bytes of an unfinished write are cut, "
            f"which "
            f"would have begun index {verdict.index:,}; {scan.later_headers:,} later frames in them look whole. The "
            f"log "
            f"then ends at index {found.last_good:,}. With appendfsync always none of this was acknowledged; with "
            "everysec or no, UNKNOWN: up to the last second's writes"
        )
    return plan


def _plan_checkpoint(found: Survey, plan: Plan) -> None:
    bad = [finding for finding in found.findings if finding.stops and finding.path.startswith("ckpt/")]
    look = found.checkpoint
    if not bad:
        return
    if look is not None and look.sound and not look.named and all(f.path == "ckpt/CURRENT" for f in bad):
        plan.current = look.number
        plan.lines.append(
            f"ckpt/CURRENT is damaged or missing: written again as env-{look.number}, the only environment there is, "
            f"sound, at index {look.index:,}; nothing is lost"
        )
    elif found.whole() and found.first == 1 and found.covered() is None:
        plan.move_checkpoint = True
        plan.lines.append(
            f"{bad[0].line()}: ckpt/ is moved to quarantine/; the log has all {found.last_good:,} entries from the "
            "first on, and the next start makes another checkpoint from them; nothing is lost"
        )


def _plan_hole(found: Survey, plan: Plan) -> None:
    rest = found.hole
    if rest is None:
        return
    plan.hole = rest
    name = rest.path.rpartition("/")[2]
    plan.lines.append(
        f"{name} is damaged before index {rest.header.base:,}, which the checkpoint holds: written anew from there to "
        f"index {rest.last_index:,}, each entry proven by the checkpoint's running digest; no data is lost, only "
        "history before the checkpoint"
    )


def _identity(found: Survey) -> Identity:
    """IDENTITY as the other files tell it. Raises NeedsDecision unless they agree."""
    owners = {(scan.header.cluster_id, scan.header.node_id) for scan in found.scans}
    if found.hard is None or len(owners) != 1 or next(iter(owners))[0] != found.hard.cluster_id:
        raise NeedsDecision(
            f"{found.directory}/IDENTITY: damaged, and hard state and log do not agree on whose data this is; put "
            f"the file "
            "back from a backup"
        )
    header = found.scans[0].header
    return Identity(header.cluster_id, header.node_id, header.created_ms)


def _carry_out(data: Path, found: Survey, plan: Plan) -> list[str]:
    kept = []
    disk = RealDisk(_nothing_is_queued)
    try:
        if plan.current:
            path = data / "ckpt/CURRENT"
            if path.exists():
                kept.append(keep(data, path, "current-damaged", 0, path.stat().st_size))
            write_current(disk, str(data), plan.current)
        if plan.move_checkpoint:
            kept.append(move(data, "ckpt"))
        if plan.hole is not None:
            kept.append(_rewrite(data, found, plan.hole))
        if plan.identity is not None:
            path = data / "IDENTITY"
            kept.append(keep(data, path, "identity-damaged", 0, path.stat().st_size))
            write_identity(disk, str(data), plan.identity)
        if plan.tail:
            hint = found.hard.synced_hint if found.hard is not None else 0
            header = found.scans[0].header
            recovered = recover_log(disk, str(data), header.cluster_id, header.node_id, hint, found.covered())
            kept.append(recovered.quarantined)
    finally:
        disk.close()
    return kept


def _rewrite(data: Path, found: Survey, rest: SegmentScan) -> str:
    """Put a segment without the damage in the damaged one's place, which is kept. One rename: it may be interrupted."""
    path = Path(rest.path)
    kept = keep(data, path, f"cut-{rest.header.number:020d}-{0:012x}", 0, used_length(path, 0))
    salt = int.from_bytes(RealRng().token(4), "little")
    with result_file(path, force=True) as sink:
        for piece in rewritten(found.disk, rest, salt, int(time.time() * 1000)):
            sink.write(piece)
    return kept


def _put_in_place(data: Path, found: Survey, mended: Mended) -> list[str]:
    """Write a segment anew; what was there is kept. One rename: it may be interrupted, and run again."""
    path = data / "log" / mended.name
    kept = []
    if mended.old is not None:
        kept.append(keep(data, path, f"cut-{mended.number:020d}-{0:012x}", 0, used_length(path, 0)))
    salt = int.from_bytes(RealRng().token(4), "little")
    with result_file(path, force=True) as sink:
        for piece in written_anew(mended, found, salt, int(time.time() * 1000)):
            sink.write(piece)
    return kept


def _nothing_is_queued(call: object) -> None:
    raise AssertionError(f"repair writes on its own thread; {call!r} came from elsewhere")
