"""The ``durakv`` program: routes its arguments, nothing else.

``server`` goes straight to the composition root with its raw arguments, because ``--directive value`` flags are
redis.conf directives, not click options, and because a server should not load a terminal library.
"""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> None:
    """Run the program with ``argv`` (default: the process's arguments); exits the process."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments and arguments[0] == "server":
        from durakv.process import run_server

        sys.exit(run_server(arguments[1:]))
    if arguments and arguments[0] == "materialise":
        from durakv.checkpoint.__main__ import main as materialise

        sys.exit(materialise(arguments[1:]))
    if arguments and arguments[0] == "write-rdb":
        from durakv.replicas.process import main as write_rdb

        sys.exit(write_rdb(arguments[1:]))
    from durakv.cli.program import program

    program.main(args=arguments, prog_name="durakv")


if __name__ == "__main__":
    main()
