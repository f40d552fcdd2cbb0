"""``durakv-cli repair``: mends what can be mended without losing a write, and refuses the rest by name.

Rule: two things only. A torn tail, of which nothing proves that it was ever synced, is cut by the storage layer's own
recovery, which keeps a copy; IDENTITY is written again when the log's and the hard state's copies of it agree. It never
shortens what may be committed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from durakv.cli.admin_files import locked
from durakv.cli.admin_progress import bar
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
from durakv.cli.recovery_quarantine import audit, keep, used_length
from durakv.cli.recovery_survey import Survey, survey
from durakv.storage.identity import Identity, identity_path, write_identity
from durakv.storage.recovery import Outcome, recover_log
from durakv.world.real_disk import RealDisk


class Plan:
    """What may be done. ``lines`` say it to a person, together with what is lost."""

    def __init__(self) -> None:
        self.identity: Identity | None = None
        self.tail = False
        self.lines: list[str] = []


@click.command("repair", cls=RecoveryCommand)
@click.argument("data", type=DATA)
@click.option("--yes", is_flag=True, help="Do it; without it only the plan is shown.")
@json_option
def repair(data: Path, yes: bool, as_json: bool) -> None:
    """Mend DATA where that is safe. Exit code 0: nothing to do; 3: repaired; 70: a person must decide."""
    with locked(data):
        with bar("Reading the log", quiet=as_json) as progress:
            found = survey(str(data), progress, live=False)
        plan = _plan(found)
        told: dict[str, object] = {
            "directory": str(data), "plan": plan.lines, "done": False,
            "findings": [finding.document() for finding in found.findings],
        }  # fmt: skip
        if not plan.lines:
            _finish(told, [f"Nothing to repair: {found.outcome}"], as_json=as_json, code=EXIT_CLEAN)
        if not yes:
            _finish(told, [*plan.lines, "Nothing was changed; add --yes"], as_json=as_json, code=EXIT_NEEDS_DECISION)
        kept = _carry_out(data, found, plan)
        record = audit(data, "repair", {"plan": plan.lines, "kept": kept, "findings": told["findings"]})
    told |= {"done": True, "kept": kept, "audit": record}
    _finish(told, [*plan.lines, *(f"Kept: {path}" for path in kept), f"Record: {record}"], as_json=as_json,
            code=EXIT_REPAIRED)  # fmt: skip


def _finish(told: dict[str, object], lines: list[str], *, as_json: bool, code: int) -> None:
    if as_json:
        show_json(told)
    else:
        for line in lines:
            click.echo(line)
    sys.exit(code)


def _plan(found: Survey) -> Plan:
    """Raises NeedsDecision when there is anything that may not be mended here."""
    plan = Plan()
    for finding in found.findings:
        if not finding.stops:
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
        header = found.scans[0].header
        if plan.identity is not None:
            path = data / "IDENTITY"
            kept.append(keep(data, path, "identity-damaged", 0, path.stat().st_size))
            write_identity(disk, str(data), plan.identity)
        if plan.tail:
            hint = found.hard.synced_hint if found.hard is not None else 0
            recovered = recover_log(disk, str(data), header.cluster_id, header.node_id, hint)
            kept.append(recovered.quarantined)
    finally:
        disk.close()
    return kept


def _nothing_is_queued(call: object) -> None:
    raise AssertionError(f"repair writes on its own thread; {call!r} came from elsewhere")
