"""``durakv-cli import``: an RDB file or append-only files of Redis, Valkey or durakv into a running server.

Rule: everything is read and judged before the first write; after it, whatever ends the import early is told together
with the option that goes on from there. Exit codes: 0 all in, 2 some left out, 70 needs a decision, 74 interrupted.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Final

import click

from durakv.aof.manifest import ManifestError
from durakv.aof.parts import OpenPart, open_parts
from durakv.aof.reader import DamagedAof
from durakv.cli.admin_files import ReadOnlyFiles
from durakv.cli.admin_import_aof import AofImport, Place
from durakv.cli.admin_import_live import Stopped, import_live
from durakv.cli.admin_import_rdb import Mark, RdbImport
from durakv.cli.admin_outcome import Outcome
from durakv.cli.admin_pipe import Lost, Pipe, Refusal, connect
from durakv.cli.admin_progress import bar
from durakv.cli.admin_survey import Survey, survey
from durakv.rdb.errors import RdbFileError
from durakv.rdb.reader import RdbFile

EXIT_LEFT_OUT: Final = 2
EXIT_DECIDE: Final = 70
EXIT_STOPPED: Final = 74
# Never sent: the import wraps what it sends into transactions of its own.
_OWN_COMMANDS: Final = frozenset((b"select", b"multi", b"exec"))


class ImportStopped(click.ClickException):
    """Ended before everything was in; the message says how to go on."""

    exit_code = EXIT_STOPPED


class ImportRefused(click.ClickException):
    """Nothing was written."""

    exit_code = EXIT_DECIDE


@click.command("import")
@click.argument("path", type=click.Path(path_type=Path, exists=True), required=False)
@click.option("--to", "address", required=True, metavar="HOST:PORT", help="The server; in a group any node will do.")
@click.option("--from-live", metavar="HOST:PORT", help="In place of PATH: make the group follow this live server.")
@click.option("--cut-over", is_flag=True, help="With --from-live: hold the source's writers, end it, take writes here.")
@click.option("--source-user", default="", help="With --cut-over: user to log in as at the source.")
@click.option("--source-password", envvar="DURAKV_SOURCE_PASSWORD", default="",
              help="And the password [env DURAKV_SOURCE_PASSWORD].")  # fmt: skip
@click.option("--user", default="", help="User to log in as.  [default: the default user]")
@click.option("--password", envvar="DURAKV_PASSWORD", default="", help="Password [env DURAKV_PASSWORD].")
@click.option("--replace", is_flag=True, help="Overwrite keys that exist.  [default: keep and report them]")
@click.option("--into-existing", is_flag=True, help="Apply commands of append-only files to databases that hold keys.")
@click.option("--skip-modules", is_flag=True, help="Leave out keys and data of modules.")
@click.option("--resume", metavar="PLACE", help="Go on where an import ended, as its last line said.")
@click.option("--check", "only_check", is_flag=True, help="Read and judge the files, write nothing.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(0.1, 3600), default=60.0, show_default=True,
              help="Seconds to wait for a reply.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def import_(
    path: Path | None, address: str, from_live: str | None, cut_over: bool, source_user: str, source_password: str,
    user: str, password: str, replace: bool, into_existing: bool, skip_modules: bool, resume: str | None,
    only_check: bool, timeout_s: float, as_json: bool,
) -> None:  # fmt: skip
    """Bring PATH (an RDB file, an append-only directory, its manifest, or a single AOF) into a running server.

    Or, with --from-live, all that a live server holds and goes on writing.
    """
    if from_live is not None:
        if path is not None or replace or into_existing or skip_modules or resume is not None or only_check:
            raise click.UsageError("--from-live takes neither PATH nor the options of files; the source decides")
        try:
            import_live(
                from_live, address, bar("Receiving", quiet=as_json), user=user, password=password, timeout_s=timeout_s,
                cut_over=cut_over, source_user=source_user, source_password=source_password, as_json=as_json,
            )  # fmt: skip
        except (Stopped, Refusal, Lost) as error:
            raise ImportRefused(str(error)) from error
        return
    if path is None or cut_over:
        raise click.UsageError("name a PATH, or a live server with --from-live (and only then --cut-over)")
    try:
        parts = open_parts(ReadOnlyFiles(), str(path))
        with bar("Checking", quiet=as_json) as progress:
            found = survey(parts, progress)
        _judge(found, skip_modules=skip_modules)
        if only_check:
            _say_checked(found, as_json=as_json)
            return
        pipe = connect(address, user, password, timeout_s)
    except (ManifestError, RdbFileError, DamagedAof, Refusal, Lost, OSError) as error:
        raise ImportRefused(f"{error}. Nothing was written") from error
    run = _Run(parts, found, pipe, Outcome(), replace=replace, quiet=as_json)
    try:
        run.prepare(resume, into_existing=into_existing or resume is not None)
        run.transfer()
    finally:
        pipe.close()
    run.report(as_json=as_json)
    if not run.outcome.complete():
        sys.exit(EXIT_LEFT_OUT)


def _judge(found: Survey, *, skip_modules: bool) -> None:
    if found.modules and not skip_modules:
        what = ", ".join(f"{count} x {name}" for name, count in sorted(found.modules.items()))
        raise Refusal(f"modules' data ({what}) cannot be taken over; leave it out with --skip-modules")


def _say_checked(found: Survey, *, as_json: bool) -> None:
    document = {
        "bytes": found.bytes, "keys": found.keys, "by_type": found.by_type, "functions": found.functions,
        "modules": found.modules, "commands": sum(found.commands.values()), "truncated": found.truncated,
        "without_checksum": found.unchecked,
    }  # fmt: skip
    if as_json:
        click.echo(json.dumps(document))
        return
    click.echo(f"Whole: {found.keys:,} keys, {sum(found.commands.values()):,} commands, {found.bytes:,} bytes")
    for line in _remarks(found):
        click.echo(line)


def _remarks(found: Survey) -> list[str]:
    out = [f"Not verified: {path} carries no checksum, so damage inside values would go unseen" for path in
           found.unchecked]  # fmt: skip
    if found.truncated:
        out.append(f"Left out: {found.truncated}")
    return out


class _Run:
    """One import from its first write on."""

    def __init__(
        self, parts: list[OpenPart], found: Survey, pipe: Pipe, outcome: Outcome, *, replace: bool, quiet: bool
    ) -> None:
        self.outcome = outcome
        self._parts = parts
        self._found = found
        self._pipe = pipe
        self._replace = replace
        self._quiet = quiet
        self._rdb_resume = Mark(0, 0)
        self._aof_done: Place | None = None
        self._began = time.monotonic()

    # -- before the first write --------------------------------------------------------------------------------------

    def prepare(self, resume: str | None, *, into_existing: bool) -> None:
        """Look at the server, and at where to start. Raises ImportRefused."""
        try:
            self._check_server(into_existing=into_existing)
            if resume is not None:
                self._parse_resume(resume)
        except (Refusal, Lost) as error:
            raise ImportRefused(f"{error}. Nothing was written") from error

    def _check_server(self, *, into_existing: bool) -> None:
        pipe, found = self._pipe, self._found
        pipe.insist(60.0, b"SELECT", b"%d" % found.db_max)
        names = [name for name in found.commands if name not in _OWN_COMMANDS]
        for at in range(0, len(names), 64):
            asked = names[at : at + 64]
            known = pipe.insist(1.0, b"COMMAND", b"INFO", *asked)
            if isinstance(known, list):
                missing = [name.decode("latin-1") for name, row in zip(asked, known, strict=True) if not row]
                if missing:
                    raise Refusal(f"{pipe.address}: does not know {', '.join(missing)}, which the files use")
        if names and not into_existing:
            for db in range(found.db_max + 1):
                pipe.insist(60.0, b"SELECT", b"%d" % db)
                if pipe.insist(1.0, b"DBSIZE"):
                    raise Refusal(
                        f"{pipe.address}: database {db} holds keys, and commands of append-only files would change "
                        "them; empty it, or go ahead with --into-existing"
                    )
        pipe.insist(60.0, b"SELECT", b"0")

    def _parse_resume(self, text: str) -> None:
        kind, _, rest = text.partition("/")
        place = Place.parse(rest)
        done, _, sent = rest.partition("-")
        if kind == "aof" and place is not None and place.part < len(self._parts):
            self._aof_done = place
            # The RDB file before the commands was done, or this place would be one in it.
            self._rdb_resume = Mark(1 << 62, 1 << 62)
        elif kind == "rdb" and done.isdigit() and sent.isdigit():
            self._rdb_resume = Mark(int(done), int(sent))
        else:
            raise Refusal(f"--resume {text}: is not what an import of these files said; copy it from its last line")

    # -- writing -----------------------------------------------------------------------------------------------------

    def transfer(self) -> None:
        """Bring everything over. Raises ImportStopped."""
        starts = [0] * len(self._parts)
        with bar("Importing", quiet=self._quiet) as progress:
            if self._parts[0].rdb:
                part = self._parts[0]
                # Checked in the survey; the file must not change in between.
                file = RdbFile(part.source, part.path, verify=False, tail=True, skip_modules=True)
                if self._rdb_resume.done < part.source.size():
                    job = RdbImport(
                        file, self._pipe, self.outcome, int(time.time() * 1000), replace=self._replace,
                        resume=self._rdb_resume,
                    )  # fmt: skip
                    self._guard_rdb(job, progress)
                else:
                    while file.next() is not None:
                        pass
                starts[0] = file.end
            if self._found.commands:
                self._transfer_aof(starts, progress)

    def _guard_rdb(self, job: RdbImport, progress: object) -> None:
        assert callable(progress)
        try:
            job.run(progress)
        except (Refusal, KeyboardInterrupt, RdbFileError, OSError) as error:
            reason = str(error) or "interrupted"
            try:
                job.settle()
            except Lost as lost:
                reason += f"; {lost}"
            raise self._stopped(reason, f"rdb/{job.mark().done}-{job.mark().sent}") from error
        except Lost as error:
            raise self._stopped(str(error), f"rdb/{job.mark().done}-{job.mark().sent}") from error

    def _transfer_aof(self, starts: list[int], progress: object) -> None:
        assert callable(progress)
        resumed = self._aof_done is not None
        first = Place(0, starts[0], 0)
        job = AofImport(self._parts, self._pipe, self.outcome, self._note_key(), self._aof_done or first)
        try:
            if resumed:
                job.find_note()
            job.run(starts, progress)
        except (Refusal, KeyboardInterrupt, DamagedAof, OSError) as error:
            reason = str(error) or "interrupted"
            try:
                job.settle()
            except (Lost, Refusal) as lost:
                reason += f"; {lost}"
            raise self._stopped(reason, f"aof/{job.done.text()}") from error
        except Lost as error:
            raise self._stopped(str(error), f"aof/{job.done.text()}") from error

    def _note_key(self) -> bytes:
        """The same for the same files, so that a later run finds it."""
        names = [f"{Path(part.path).name} {part.source.size()}" for part in self._parts]
        return b"durakv-import:" + hashlib.sha256("\n".join(names).encode()).hexdigest()[:16].encode()

    def _stopped(self, reason: str, place: str) -> ImportStopped:
        lines = [f"{reason}", *self._lines(), f"To go on from here, run the same command with --resume {place}"]
        return ImportStopped("\n".join(lines))

    # -- telling -----------------------------------------------------------------------------------------------------

    def _lines(self) -> list[str]:
        seconds = max(time.monotonic() - self._began, 1e-9)
        outcome = self.outcome
        done = f"Imported {outcome.imported:,} keys"
        if outcome.commands:
            done += f", applied {outcome.commands:,} commands"
        if outcome.functions:
            done += f", loaded {outcome.functions:,} function libraries"
        rate = (outcome.imported + outcome.commands) / seconds
        return [f"{done} in {seconds:.1f} s ({rate:,.0f}/s)", *_remarks(self._found), *outcome.lines()]

    def report(self, *, as_json: bool) -> None:
        """Say what went in and what did not."""
        if not as_json:
            click.echo("\n".join(self._lines()))
            return
        seconds = time.monotonic() - self._began
        document = self.outcome.document()
        document |= {
            "seconds": round(seconds, 3), "truncated": self._found.truncated,
            "without_checksum": self._found.unchecked,
        }  # fmt: skip
        click.echo(json.dumps(document))
