"""Commands as the bytes a replica reads. [compiled]

Rule: arrays of bulk strings only, as in an append-only file.
"""

from __future__ import annotations

from typing import Final

# As many elements go into one command at most.
ELEMENTS_MAX: Final = 256
MULTI: Final = b"*1\r\n$5\r\nMULTI\r\n"
EXEC: Final = b"*1\r\n$4\r\nEXEC\r\n"
PING: Final = b"*1\r\n$4\r\nPING\r\n"


def command(words: list[bytes]) -> bytes:
    """One command."""
    out = [b"*%d\r\n" % len(words)]
    for word in words:
        out.append(b"$%d\r\n" % len(word))
        out.append(word)
        out.append(b"\r\n")
    return b"".join(out)


def batches(head: list[bytes], words: list[bytes], words_each: int) -> list[bytes]:
    """``words`` as arguments behind ``head``, in as many commands as are needed; ``words_each`` make one element."""
    step = ELEMENTS_MAX * words_each
    return [command(head + words[at : at + step]) for at in range(0, len(words), step)]
