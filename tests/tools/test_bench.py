from __future__ import annotations

import os
import socket
import threading

import pytest

from tools.bench import closed_loop, measure, modes, report
from tools.bench.closed_loop import EtcdMode, SetMode, WaitMode, WrongReply
from tools.bench.measure import Load, Median, Sample
from tools.bench.rows import SECTIONS, Row, all_rows, benchmark_command
from tools.bench.targets import known_targets

CSV = (
    '"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"\n'
    '"SET","37223.00","1.1","0.1","0.407","3.0","7.279","9.0"\n'
)


def test_benchmark_csv() -> None:
    load = measure.parse_benchmark_csv("some warning\n" + CSV, 1000)
    assert load == Load(1000, 37223.0, 407.0, 7279.0)


def test_benchmark_csv_with_commas_in_the_title() -> None:
    assert measure.parse_benchmark_csv(CSV.replace('"SET"', '"SET a, b"'), 1).per_s == 37223.0


def test_benchmark_csv_without_result() -> None:
    with pytest.raises(ValueError, match="no result"):
        measure.parse_benchmark_csv("Could not connect\n", 1)


def test_percentile_is_nearest_rank() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [measure.percentile(values, p) for p in (1, 50, 99, 100)] == [1, 50, 99, 100]
    assert measure.percentile([7.0], 99) == 7.0
    with pytest.raises(ValueError, match="no values"):
        measure.percentile([], 50)


def test_stat_ticks_survive_a_hostile_name() -> None:
    text = "12 (a) (b c) S " + " ".join(str(n) for n in range(4, 60))
    # Fields 14 to 17 of proc(5): utime, stime, cutime, cstime.
    assert measure.parse_stat_ticks(text) == 14 + 15 + 16 + 17


def test_own_cpu_time_grows() -> None:
    before = measure.cpu_s([os.getpid()])
    while measure.cpu_s([os.getpid()]) < before + 0.02:
        sum(range(10000))
    assert measure.cpu_s([0x7FFFFFF]) == 0


def test_median_is_taken_column_by_column() -> None:
    samples = [Sample(Load(1, n, 10 - n, n), n) for n in (1.0, 9.0, 2.0)]
    assert measure.median(samples) == Median(2.0, 8.0, 2.0, 2.0, 3)


def test_set_reply() -> None:
    assert SetMode().complete(b"+OK\r\n")
    assert not SetMode().complete(b"+O")
    with pytest.raises(WrongReply):
        SetMode().complete(b"-ERR no\r\n")


def test_waitaof_reply() -> None:
    mode = WaitMode()
    assert mode.complete(b"+OK\r\n*2\r\n:1\r\n:1\r\n")
    assert mode.complete(b"+OK\r\n*2\r\n:1\r\n:2\r\n")
    assert not mode.complete(b"+OK\r\n*2\r\n:1\r\n")
    for wrong in (
        b"+OK\r\n*2\r\n:0\r\n:1\r\n",
        b"+OK\r\n*2\r\n:1\r\n:0\r\n",
        b"-ERR unknown",
        b"+OK\r\n-ERR unknown command",
    ):
        with pytest.raises(WrongReply):
            mode.complete(wrong)


def test_etcd_reply() -> None:
    mode = EtcdMode()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
    assert not mode.complete(head[:20])
    assert not mode.complete(head + b"abc")
    assert mode.complete(head + b"abcd")
    with pytest.raises(WrongReply):
        mode.complete(b"HTTP/1.1 503 No\r\n\r\n")


def test_closed_loop_against_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            link, _ = listener.accept()
            with link:
                try:
                    while link.recv(4096):
                        link.sendall(b"+OK\r\n")
                except ConnectionError:
                    # The load generator hangs up with a reply on its way.
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        port = str(listener.getsockname()[1])
        assert closed_loop.main(["set", "--ports", port, "--clients", "1", "--seconds", "0.1"]) == 0
        thread.join(5)
        assert not thread.is_alive()
    assert '"requests": ' in capsys.readouterr().out


def test_rows_name_known_targets_and_sections() -> None:
    names = {target.name for target in known_targets()}
    rows = all_rows()
    measured = {row.target for row in rows}
    assert measured | set(modes.SHAPES) == names
    assert {row.section for row in rows} == set(SECTIONS)
    assert len({row.key for row in rows}) == len(rows)
    # One run of consecutive rows for each target, or a target would be started twice in a round.
    runs = [name for n, name in enumerate(r.target for r in rows) if n == 0 or rows[n - 1].target != name]
    assert len(runs) == len(measured)


def test_benchmark_command() -> None:
    command = benchmark_command(Row("memory", "x", "GET", 50, 16), 7001, 1234)
    assert command[1:] == ["-h", "127.0.0.1", "-p", "7001", "-t", "get", "-n", "1234", "-c", "50", "-P", "16", "-d",
                           "32", "-r", "100000", "--csv"]  # fmt: skip


def test_report_compares_like_with_like() -> None:
    rows = {
        Row("replicated", "valkey-waitaof", "SET+WAITAOF", 50, 1): Median(1000, 1, 1, 1, 3),
        Row("replicated", "durakv-3", "SET (loop)", 50, 1): Median(1500, 1, 1, 1, 3),
        Row("replicated", "durakv-3", "SET", 50, 1): Median(9000, 1, 1, 1, 3),
        Row("replicated", "etcd-3", "PUT", 200, 1): Median(500, 1, 1, 1, 3),
        Row("memory", "redis-memory", "GET", 50, 1): Median(100, 1, 1, 1, 3),
        Row("memory", "durakv-memory", "GET", 50, 1): Median(80, 1, 1, 1, 3),
        Row("memory", "durakv-memory", "SET", 50, 1): Median(70, 1, 1, 1, 3),
    }
    ratios = {row.target + row.operation: report.ratio(row, rows) for row in rows}
    assert ratios["valkey-waitaofSET+WAITAOF"] == "1.50x"
    assert ratios["etcd-3PUT"] == "-"
    assert ratios["redis-memoryGET"] == "0.80x"
    assert ratios["durakv-3SET"] == ""


def test_report_shows_what_was_not_measured() -> None:
    row = Row("memory", "durakv-memory", "SET", 50, 1)
    text = report.render(["a machine"], {"durakv-memory": "durakv here"}, {row: Median(12345, 100, 200, 3, 3)},
                         {"etcd-3": "etcd is not installed"}, ["an incident"], ["a command"])  # fmt: skip
    for part in ("durakv here", "12,345", "- etcd-3: etcd is not installed", "- an incident", "a command"):
        assert part in text
