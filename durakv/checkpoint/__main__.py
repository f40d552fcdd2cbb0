"""``python -m durakv materialise <stream dir> <checkpoint dir> <environment dir> <bytes> <interval ms>``.

The materialiser's process: the server starts it, talks to it through standard input and output (process.py says how),
and it ends when standard input does. Rule: the only place of this package that touches the real world.
"""

from __future__ import annotations

import sys
from typing import Final

from durakv.checkpoint.place import LOCK_NAME, open_checked
from durakv.checkpoint.process import CommandRefused, MaterialiserProcess, one_line
from durakv.storage.errors import EXIT_IO, EXIT_LOCKED, EXIT_USAGE, StorageError
from durakv.world.real_disk import RealDisk
from durakv.world.real_kv import open_kv
from durakv.world.real_lines import RealLines

_ARGUMENTS: Final = 5


def main(argv: list[str]) -> int:
    """Run until standard input ends; the exit code."""
    if len(argv) != _ARGUMENTS or not (argv[3] + argv[4]).isdecimal():
        sys.stderr.write("durakv materialise: this is started by 'durakv server', not by hand\n")
        return EXIT_USAGE
    lines = RealLines()
    disk = RealDisk(lambda job: job())
    try:
        if not disk.lock(f"{argv[1]}/{LOCK_NAME}"):
            lines.write(f"E {argv[1]}/{LOCK_NAME} is held: another materialiser runs here")
            return EXIT_LOCKED
        kv = open_checked(disk, open_kv, argv[2], write=True)
        process = MaterialiserProcess(
            kv, disk, lines.now_ms, lines.write, argv[0], argv[1], int(argv[3]), int(argv[4])
        )  # fmt: skip
        while True:
            more = process.step()
            received = lines.read(0 if more else process.wait_ms())
            if received is None:
                # Without a word before, the server died: another one may already read what is here.
                if process.leaving:
                    process.finish()
                return 0
            for line in received:
                process.command(line)
    except StorageError as error:
        lines.write(f"E {one_line(error)}")
        return error.exit_code
    except OSError as error:
        lines.write(f"E {one_line(error)}")
        return EXIT_IO
    except CommandRefused as error:
        lines.write(f"E {one_line(error)}")
        return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
