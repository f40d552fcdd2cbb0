import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from jstyle.checkers import registry
from jstyle.checkers.verdict import FALSE, TRUE, Verdict
from jstyle.cli.check import Duration, command
from jstyle.history import files
from jstyle.history.op import Op

GOLDEN = Path(__file__).parent / "golden" / "linear"


def run(*args):
    return CliRunner().invoke(command, [str(arg) for arg in args])


@pytest.mark.parametrize(
    ("name", "workload", "code"),
    [
        ("sequential", "register", 0),
        ("stale-read", "register", 1),
        ("empty", "register", 2),
        ("only-info", "unique-register", 2),
        ("stale-read", "unique-register", 1),
        ("commands-replies", "commands", 0),
        ("counter-same-total-twice", "counter-linear", 1),
        ("block-torn", "multi-register", 1),
    ],
)
def test_exit_code_is_the_verdict(name, workload, code):
    result = run(GOLDEN / f"{name}.jsonl", "--workload", workload)
    assert result.exit_code == code
    assert result.stdout.startswith(f"{name}.jsonl")


def test_json():
    result = run(GOLDEN / "stale-read.jsonl", "-w", "register", "--json", "--second-opinion")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert found["valid"] == "false"
    assert [verdict["checker"] for verdict in found["verdicts"]] == ["linear", "wgl"]
    (anomaly,) = found["verdicts"][0]["anomalies"]
    assert anomaly["name"] == "stale-read" and anomaly["data"]["prefixes"]


def test_a_spent_budget_is_unknown_and_says_where():
    result = run(GOLDEN / "budget-spent.jsonl", "-w", "register", "--steps", "1", "--json")
    assert result.exit_code == 2
    assert "key None operations 0..9 at" in json.loads(result.stdout)["verdicts"][0]["why"]


def test_history_whose_keys_look_like_values():
    # Written as pairs of numbers, which --plain reads as values.
    result = run(GOLDEN / "independent-pairs-one-stale.jsonl", "-w", "register", "--plain", "--json")
    assert json.loads(result.stdout)["verdicts"][0]["counts"]["partitions"] == 1


@pytest.mark.parametrize(
    ("args", "about"),
    [
        (["nowhere.jsonl", "-w", "register"], "No such file"),
        (["FILE"], "name a --workload"),
        (["FILE", "-w", "nonsense"], "there are register, commands"),
        (["FILE", "-w", "register", "--budget", "soon"], "no duration"),
        (["FILE", "-w", "register", "--wrong"], "No such option"),
        ([], "Missing argument"),
        (["FILE", "-w", "counter-linear"], "a counter has no 'write'"),
        (["FILE", "--convert", "out.txt"], "name the file .jsonl"),
    ],
)
def test_what_cannot_be_done_exits_with_3_and_one_line(args, about):
    result = run(*[GOLDEN / "stale-read.jsonl" if arg == "FILE" else arg for arg in args])
    assert result.exit_code == 3
    assert about in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_malformed_file_names_its_line(tmp_path):
    path = tmp_path / "h.edn"
    path.write_text("{:type :invoke, :f :read, :process 0}\n{:type :ok")
    result = run(path, "-w", "register")
    assert result.exit_code == 3
    assert f"{path}: line 2: " in result.stderr


@pytest.mark.parametrize("form", ["edn", "json", "calls", "jsonl"])
def test_converted_histories_have_the_same_verdict(tmp_path, form):
    for name, code in (("info-write-applied-late", 0), ("info-write-applied-twice", 1), ("lost-update-cas", 1)):
        target = tmp_path / f"{name}.{form}"
        assert run(GOLDEN / f"{name}.jsonl", "--convert", target).exit_code == 0
        assert run(target, "-w", "register").exit_code == code


def test_engines_that_disagree_are_an_error(monkeypatch):
    found = {"linear:check": Verdict("linear", TRUE), "wgl:check": Verdict("wgl", FALSE)}
    monkeypatch.setattr(registry, "checker", lambda reference: lambda ops, options: found[reference])
    result = run(GOLDEN / "stale-read.jsonl", "-w", "register", "--second-opinion")
    assert result.exit_code == 3
    assert "the engines disagree" in result.stderr


def test_second_opinion_needs_a_second_engine(monkeypatch):
    monkeypatch.setattr(registry, "checker", lambda reference: lambda ops, options: Verdict("bank", TRUE))
    result = run(GOLDEN / "stale-read.jsonl", "-w", "bank", "--second-opinion")
    assert result.exit_code == 3
    assert "no second engine" in result.stderr


def test_list_names_every_workload():
    result = run("--list")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == list(registry.WORKLOADS)


def test_markup_in_values_is_shown_as_it_is(tmp_path):
    path = tmp_path / "[bold]h.jsonl"
    files.write(path, [Op(0, 0, 0, "invoke", "read", key="[red]k"), Op(1, 1, 0, "ok", "read", "[/]", key="[red]k")])
    result = run(path, "-w", "register")
    assert result.exit_code == 1
    assert "[red]k" in result.stdout and "[/]" in result.stdout


@pytest.mark.parametrize(("text", "seconds"), [("60", 60), ("60s", 60), ("2m", 120), ("500ms", 0.5), ("1.5h", 5400)])
def test_durations(text, seconds):
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("workload", [w.name for w in registry.WORKLOADS.values() if w.second])
def test_the_linear_workloads_load(workload):
    for reference in (*registry.find(workload).checkers, registry.find(workload).second):
        assert callable(registry.checker(reference))


def lines(tmp_path, *steps):
    """A history of one process: (f, value, answer) each."""
    path = tmp_path / "history.jsonl"
    text = []
    for number, (f, value, answer) in enumerate(steps):
        for at, (type_, held) in enumerate((("invoke", value), ("ok", answer))):
            op = {"index": 2 * number + at, "time": (2 * number + at) * 10**9, "process": 0, "type": type_, "f": f}
            text.append(json.dumps({**op, "value": held, "key": "k"}))
    path.write_text("\n".join(text) + "\n")
    return path


SET = ("set", {"value": 1, "px": 300}, {"value": 1, "px": 300})


@pytest.mark.parametrize(
    ("workload", "steps", "given", "without"),
    [
        ("expiry", [SET, ("read", None, 1)], (["--bound-ms", "100"], 1), 2),
        ("expiry", [SET, ("read", None, 1)], (["--bound-ms", "9000"], 0), 2),
        ("bank", [("read", None, {"a": 4, "b": 5})] * 2, (["--total", "10"], 1), 0),
        ("bank", [("read", None, {"a": 4, "b": 5})] * 2, (["--accounts", "a,b,c"], 1), 0),
        ("bank", [("read", None, {"a": -4, "b": 5})] * 2, (["--negative-balances"], 0), 1),
        (
            "queue",
            [("enqueue", n, n) for n in (1, 2)] + [("dequeue", None, 2), ("dequeue", None, 1)],
            (["--fifo"], 1),
            0,
        ),
        ("queue", [("enqueue", 1, 1), ("drain", None, [1]), ("drain", None, [])], (["--drain-takes"], 0), 1),
        ("order", [("publish", n, n) for n in (1, 2, 3)] + [("observe", None, [1, 3])], (["--gaps"], 0), 1),
        ("counter", [("add", 1, 1), ("read", None, 6)], (["--initial", "5"], 0), 1),
    ],
)
def test_options_of_single_checkers_reach_them(tmp_path, workload, steps, given, without):
    path = lines(tmp_path, *steps)
    arguments, code = given
    assert run(path, "-w", workload).exit_code == without
    result = run(path, "-w", workload, *arguments)
    assert result.exit_code == code, result.output
