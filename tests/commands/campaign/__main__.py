"""``python -m tests.commands.campaign --type zsets --commands 200000 --resp 3 --seed 1``: compare and report.

The exit code is 1 when anything differs that is not listed.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.commands.campaign import record
from tests.commands.campaign.contest import Campaign
from tests.commands.campaign.programs import TYPES
from tests.commands.campaign.servers import Ports, peer_found, running

# Commands of one type before another's turn comes.
SLICE = 10_000


def main(argv: list[str]) -> int:
    """One campaign, or with ``--write-docs`` the document anew; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.commands.campaign", description=__doc__)
    parser.add_argument("--type", choices=(*TYPES, "all"), nargs="+", default=["all"], help="whose commands")
    parser.add_argument("--commands", type=int, default=20_000, help="how many of each type (default 20000)")
    parser.add_argument("--resp", type=int, choices=(2, 3), help="only this protocol (default both)")
    parser.add_argument("--seed", type=int, default=1, help="the first program's seed")
    parser.add_argument("--peer", choices=("redis", "valkey"), help="which stock server")
    parser.add_argument("--record", action="store_true", help="note the figures for the document")
    parser.add_argument("--resume", action="store_true", help="go on where what is recorded ends; implies --record")
    parser.add_argument("--write-docs", action="store_true", help="write docs/compatibility.md's section and end")
    options = parser.parse_args(argv)
    if options.write_docs:
        record.write_document()
        return 0
    binary = peer_found(options.peer)
    if binary is None:
        print("no stock server on PATH: install valkey or redis", file=sys.stderr)
        return 2
    kinds = list(TYPES if "all" in options.type else options.type)
    protocols = [options.resp] if options.resp else [2, 3]
    with running(binary) as ports:
        contests = Contests(ports, binary, record_them=options.record or options.resume)
        if options.resume:
            contests.resume(kinds, protocols, options.commands, options.seed)
        else:
            for kind in kinds:
                for protocol in protocols:
                    contests.run(kind, protocol, options.commands, options.seed)
    return 1 if contests.different else 0


class Contests:
    """Campaigns one after the other against one pair of servers."""

    def __init__(self, ports: Ports, binary: str, *, record_them: bool) -> None:
        self.ports = ports
        self.record = record_them
        self.peer = record.version_of(binary)
        self.different = 0

    def run(self, kind: str, protocol: int, commands: int, seed: int) -> None:
        """One campaign, told in one line and noted."""
        began = time.monotonic()
        campaign = Campaign(self.ports, kind, protocol)
        campaign.run(seed, commands)
        campaign.close()
        count = sum(campaign.differing.values())
        self.different += count
        print(
            f"{kind} RESP{protocol}: {campaign.commands} commands in {campaign.programs} programs from seed {seed}, "
            f"{count} programs differ, {time.monotonic() - began:.0f} s, {self.peer}",
            flush=True,
        )
        if self.record:
            record.note(campaign, seed, self.peer)

    def resume(self, kinds: list[str], protocols: list[int], commands: int, seed: int) -> None:
        """Slices of each type in turn, where what is recorded ends, until there are as many ``commands`` of each."""
        while True:
            lacking = []
            for kind in kinds:
                for protocol in protocols:
                    row = record.so_far(kind, protocol, self.peer)
                    done = int(row["commands"]) if row else 0
                    if done < commands:
                        first = int(row["seed"]) + int(row["programs"]) if row else seed
                        lacking.append((done, kind, protocol, first))
            if not lacking:
                return
            done, kind, protocol, first = min(lacking, key=lambda part: part[0])
            self.run(kind, protocol, min(SLICE, commands - done), first)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
