"""No I/O of the storage escapes the recorder."""

from __future__ import annotations

import pytest

from jstyle.crash.kernel import compare, parse_report, strace_missing
from jstyle.crash.scripts import script_named

MISSING = strace_missing()


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
@pytest.mark.parametrize("name", ["bootstrap", "conflict", "aftermath"])
def test_the_kernel_saw_what_was_recorded(name):
    assert compare(script_named(name)) == []


def test_a_report_is_read_across_threads_and_unknown_calls_show():
    report = (
        '7  openat(AT_FDCWD</x>, "/t/w/d/a", O_RDWR|O_CREAT|O_CLOEXEC, 0640) = 3</t/w/d/a>\n'
        '7  openat(AT_FDCWD</x>, "/t/w/d/a", O_RDWR|O_CREAT|O_CLOEXEC, 0640) = 4</t/w/d/a>\n'
        '8  pwrite64(3</t/w/d/a>, "abc"..., 300, 4096 <unfinished ...>\n'
        '7  mkdir("/t/w/d/f", 0750)           = 0\n'
        "8  <... pwrite64 resumed>)              = 300\n"
        '7  mkdir("/t/w/d/f", 0750)           = -1 EEXIST (File exists)\n'
        "8  fallocate(3</t/w/d/a>, 0, 4096, 512) = 0\n"
        "8  fdatasync(3</t/w/d/a>) = 0\n"
        "8  fsync(5</t/w/d/f>) = 0\n"
        '8  write(3</t/w/d/a>, "abc", 3) = 3\n'
        '8  rename("/t/w/d/a", "/t/w/d/b") = 0\n'
        '8  link("/t/w/d/b", "/t/w/d/c") = 0\n'
        "8  fsync(9</elsewhere>) = 0\n"
    )
    assert list(parse_report(report, "/t/w", ["d/"])) == [
        "create d/a",
        "mkdir d/f",
        "write d/a 300@4096",
        "fallocate d/a 512@4096",
        "fdatasync d/a",
        "fsync_dir d/f",
        'write 3</t/w/d/a>, "abc", 3',
        "rename d/a d/b",
        "link d/b d/c",
    ]
