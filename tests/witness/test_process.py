"""``durakv witness`` as a person and a kernel treat it: started wrongly, killed, stopped, asked how it is."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from durakv.cli.witness import EXIT_LOCKED, WitnessError, create_now, status
from durakv.witness.address import WitnessAddress
from raft.messages import WitnessVoteResp
from tests.witness.places import CLUSTER, WITNESS, Asker, Nodes, WitnessProcess, append, key, reported, vote

pytestmark = pytest.mark.live


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    made = Nodes()
    yield made
    made.close()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[WitnessProcess]:
    made = WitnessProcess(tmp_path / "w")
    made.start()
    yield made
    if made.process is not None:
        made.kill()


def address(process: WitnessProcess) -> WitnessAddress:
    return WitnessAddress.parse(f"tcp://127.0.0.1:{process.port}")


def run(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "durakv", "witness", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, (done.stdout + done.stderr).strip()


def test_killed_between_and_within_questions_it_gives_no_vote_twice(nodes: Nodes, process: WitnessProcess):
    where = address(process)
    assert nodes.create(where, key()) is None
    askers = {node: Asker(nodes, where, key(), node) for node in (1, 2)}
    votes: dict[int, int] = {}
    random = Random(1)
    for term in range(2, 8):
        for node in random.sample((1, 2), 2):
            asker = askers[node]
            before = len(asker.answers)
            message = vote(node, term, (term, 0))
            asker.link.send(message)
            nodes.pass_ms(random.choice((0, 0.2, 1, 3, 20)))
            process.kill()
            process.start()
            deadline = time.monotonic() + 20
            while len(asker.answers) == before:
                assert time.monotonic() < deadline
                asker.link.send(message)
                nodes.pass_ms(20)
            nodes.pass_ms(20)
            for reply in asker.answers[before:]:
                assert isinstance(reply, WitnessVoteResp)
                if reply.granted:
                    assert votes.setdefault(reply.term, node) == node
    assert len(votes) == 6
    assert not any("WITNESS_STATE_LOST" in text for asker in askers.values() for text in asker.troubles)
    for asker in askers.values():
        asker.link.close()


def test_a_stopped_process_stops_with_0_and_its_link_reports_and_recovers(nodes: Nodes, process: WitnessProcess):
    assert nodes.create(address(process), key()) is None
    asker = Asker(nodes, address(process), key(), 1)
    asker.ask(append(1, 2, (2, 1), (1, WITNESS)))
    code, text = process.stop()
    assert code == 0 and "event=stopped exit code 0" in text
    assert "cannot be reached" in asker.trouble_of(vote(1, 3, (2, 1)))
    process.start()
    assert asker.ask(vote(1, 4, (2, 1))).granted  # type: ignore[attr-defined]
    assert asker.troubles[-1] == ""
    asker.link.close()


def test_a_paused_process_is_reported_and_answers_when_it_goes_on(nodes: Nodes, process: WitnessProcess):
    assert nodes.create(address(process), key()) is None
    asker = Asker(nodes, address(process), key(), 1)
    asker.ask(vote(1, 2, (1, 0)))
    assert process.process is not None
    os.kill(process.process.pid, signal.SIGSTOP)
    try:
        assert "gives no answer within" in asker.trouble_of(vote(1, 3, (1, 0)))
    finally:
        os.kill(process.process.pid, signal.SIGCONT)
    assert asker.ask(vote(1, 4, (1, 0))).granted  # type: ignore[attr-defined]
    asker.link.close()


def test_the_status_of_a_process(nodes: Nodes, process: WitnessProcess):
    assert nodes.create(address(process), key()) is None
    asker = Asker(nodes, address(process), key(), 1)
    asker.ask(vote(1, 2, (1, 0)))
    report = reported(process)
    assert (report["states"], report["answered"], report["bytes"]) == (1, 1, 124)
    code, text = run("status", f"127.0.0.1:{process.port}")
    assert code == 0 and f'"witness_id": {WITNESS}' in text and '"vote": 1' in text
    asker.link.close()


def test_creating_from_the_command_line(process: WitnessProcess, tmp_path: Path):
    for where in (f"tcp://127.0.0.1:{process.port}", f"file://{tmp_path}/states"):
        create_now(where, CLUSTER, 1, 4)
        with pytest.raises(WitnessError, match="an id serves once, ever"):
            create_now(where, CLUSTER, 1, 4)
        arguments = ("create", where, "--cluster-id", CLUSTER.hex(), "--group", "1", "--id")
        assert run(*arguments, "5") == (0, f"Created witness 5 of group 1 at {where}")
        code, text = run(*arguments, "5")
        assert code == 1 and text.startswith("Error: ") and "take another id" in text and "\n" not in text
    for wrong in (("x", CLUSTER, 1, 4), ("tcp://h:1", b"short", 1, 4), ("tcp://h:1", CLUSTER, 1, 0)):
        with pytest.raises(WitnessError):
            create_now(*wrong)


def refused(*arguments: str) -> tuple[int, str]:
    code, text = run(*arguments)
    assert "\n" not in text and text.startswith("durakv witness: "), text
    return code, text


def test_bad_starts_say_in_one_line_what_is_wrong(process: WitnessProcess, tmp_path: Path):
    code, text = refused("--listen", "127.0.0.1:0", "--dir", str(process.directory))
    assert code == EXIT_LOCKED and "in use by another witness process" in text
    code, text = refused("--listen", f"127.0.0.1:{process.port}", "--dir", str(tmp_path / "other"))
    assert code == 1 and "another process does" in text
    (tmp_path / "file").write_text("not a directory")
    for unusable in (tmp_path / "file", tmp_path / "file" / "below"):
        code, text = refused("--listen", "127.0.0.1:0", "--dir", str(unusable))
        assert code == 1 and f"cannot use --dir {unusable}" in text
    for listen in ("nonsense", "host:", "127.0.0.1:99999", "[::1:7400"):
        code, text = refused("--listen", listen, "--dir", str(tmp_path / "other"))
        assert code == 1 and "--listen" in text
    assert run("--dir", str(tmp_path))[0] == 2


def test_a_status_that_cannot_be_had(process: WitnessProcess):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(WitnessError, match="gave no answer"):
            status(f"127.0.0.1:{held.getsockname()[1]}")
    with pytest.raises(WitnessError, match="not host:port"):
        status("nowhere")


def test_strangers_do_not_disturb_it(nodes: Nodes, process: WitnessProcess):
    assert nodes.create(address(process), key()) is None
    random = Random(3)
    for _ in range(30):
        with socket.create_connection(("127.0.0.1", process.port)) as stranger:
            stranger.sendall(random.randbytes(random.randrange(1, 2000)))
    held = [socket.create_connection(("127.0.0.1", process.port)) for _ in range(50)]
    asker = Asker(nodes, address(process), key(), 1)
    assert asker.ask(vote(1, 2, (1, 0))).granted  # type: ignore[attr-defined]
    asker.link.close()
    for one in held:
        one.close()
    code, text = process.stop()
    assert code == 0 and text.count("event=refused") <= 25
