import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jstyle.checkers import linear
from jstyle.history import files
from jstyle.history.fields import FormatError
from jstyle.history.keys import keyed, lift
from jstyle.history.op import HistoryError, Op, calls

OPS = [
    Op(0, 10, 0, "invoke", "txn", [["append", "x", 1], ["r", "y", None]], node="n1", req="r-1"),
    Op(1, 20, "nemesis", "info", "partition", {"isolate": ["n1"]}),
    Op(2, 30, 1, "invoke", "write", 5, key="k"),
    Op(3, 40, 0, "ok", "txn", [["append", "x", 1], ["r", "y", [1, 2]]]),
    Op(4, 50, 1, "info", "write", 5, error="timeout", key="k"),
]


def fields(op):
    return [getattr(op, name) for name in Op.__slots__]


@pytest.mark.parametrize("form", ["jsonl", "edn", "json"])
def test_every_form_reads_back_what_it_wrote(tmp_path, form):
    path = tmp_path / f"history.{form}"
    files.write(path, OPS)
    recorded = files.load(path)
    assert recorded.form == form
    assert [fields(op) for op in recorded.ops] == [fields(op) for op in OPS]


def test_edn_is_as_jepsen_writes_it():
    first, second, *_ = files.dumps(OPS, files.EDN).splitlines()
    assert first.startswith("{:index 0, :time 10, :process 0, :type :invoke, :f :txn, :value [[:append ")
    assert ":process :nemesis, :type :info, :f :partition" in second


def test_foreign_edn():
    text = """
    ; a comment
    {:type :invoke, :f :read, :value nil, :process 0}
    #jepsen.history.Op{:type :ok, :f :read, :value #{1 2}, :process 0, :time 7, :error [:weird 3]}
    {:type "invoke", :f "write", :value ["k" 3], :process "4"}
    {:type :info, :f :kill, :process :nemesis, :clock-offsets {}}
    """
    ops = files.loads(text, files.EDN).ops
    assert [op.index for op in ops] == [0, 1, 2, 3]
    assert [op.time for op in ops] == [-1, 7, -1, -1]
    assert [op.process for op in ops] == [0, 0, 4, "nemesis"]
    assert ops[1].value == [1, 2] and ops[1].error == "[:weird 3]"
    assert len(list(calls(ops))) == 2


def test_one_vector_of_maps():
    assert len(files.loads("[{:type :invoke :f :r :process 0} {:type :ok :f :r :process 0}]", files.EDN).ops) == 2


def test_first_line_of_metadata():
    text = '{"golden": "x", "valid": "true"}\n{"process": 0, "type": "invoke", "f": "read"}\n\n'
    recorded = files.loads(text, files.JSONL)
    assert recorded.meta == {"golden": "x", "valid": "true"}
    assert [op.f for op in recorded.ops] == ["read"]


@pytest.mark.parametrize(
    ("name", "text", "form"),
    [
        ("h.jsonl", '{"type": "ok"}', "jsonl"),
        ("h.json", '[{"type": "ok"}]', "json"),
        ("h.json", '{"type": "ok"}\n{"type": "ok"}', "jsonl"),
        ("h.edn", "{:type :ok}", "edn"),
        ("h", "{:type :ok}", "edn"),
        ("h.txt", "[{:type :ok}]", "edn"),
        ("h.json", "#jepsen.history.Op{:a 1}", "edn"),
        ("h.txt", "INFO  jepsen.util - 0\t:invoke\t:read\tnil", "log"),
        ("h.log", "anything", "log"),
        ("h", "", "jsonl"),
    ],
)
def test_the_form_is_found_out(name, text, form):
    assert files.form_of(name, text) == form


@pytest.mark.parametrize(
    ("text", "form", "line", "about"),
    [
        ('{"process": 0, "type": "ok", "f": "r"}\n{oops', "jsonl", 2, "not JSON"),
        ('\n\n{"process": 0, "type": "done", "f": "r"}', "jsonl", 3, "type must be"),
        ('{"process": 1.5, "type": "ok", "f": "r"}', "jsonl", 1, "process must be"),
        ('{"process": 0, "type": "ok", "f": 3}', "jsonl", 1, "f must be"),
        ('{"process": 0, "type": "ok", "f": "r", "index": -1}', "jsonl", 1, "index must be"),
        ('{"process": 0, "type": "ok", "f": "r", "time": "noon"}', "jsonl", 1, "time must be"),
        ("5", "jsonl", 1, "must be a map"),
        ('{"process":0,"type":"ok","f":"r","index":3}\n' * 2, "jsonl", 2, "rise"),
        ("[" * 100_000, "jsonl", 1, "not usable JSON|not JSON"),
        ('{"process": ' + "9" * 5000 + "}", "jsonl", 1, "not usable JSON"),
        ('[{"process": 0, "type": "ok", "f": "r"},\n 7]', "json", 2, "must be a map"),
        ('[\n{"process": 0, "type": "ok", "f": "r"}', "json", 2, "never closed"),
        ("[] []", "json", 1, "after the end"),
        ("{:type :ok\n :f :r, :process 0}\n{:type :bad}", "edn", 3, "type must be"),
        ("{:type :ok\n", "edn", 1, "never closed"),
        ("4", "edn", 1, "must be a map"),
        ("x\nINFO - 0\t:invoke\t:read\t[1", "log", 2, "never closed"),
        ('{"client":0,"call":5,"return":3,"input":{"f":"read"}}', "jsonl", 1, "before its call"),
        ('{"client":0,"call":5,"return":9,"input":{}}', "jsonl", 1, "input must be"),
        ('{"client":0,"call":5,"input":{"f":"r"}}\n{"client":"a","call":5,"input":{}}', "jsonl", 2, "client must"),
    ],
)
def test_bad_files_are_refused_with_their_line(text, form, line, about):
    with pytest.raises(FormatError, match=about) as refused:
        files.loads(text, form)
    assert refused.value.line == line
    assert "\n" not in str(refused.value)


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "h.jsonl"
    path.write_bytes(b'{"a": 1}\n\xff\xfe')
    with pytest.raises(FormatError, match="line 2: not UTF-8"):
        files.load(path)


def refusal(text, form):
    """The words of the refusal, empty for text that is read."""
    try:
        files.loads(text, form)
    except HistoryError as error:
        return str(error)
    return ""


@given(st.text(), st.sampled_from(["jsonl", "json", "edn", "log", "calls"]))
def test_any_text_is_a_history_or_is_refused(text, form):
    assert refusal(text, form).count("\n") == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["index", "time", "process", "type", "f", "value", "call", "return", "input", "client", "key"])


@given(st.lists(st.dictionaries(NAMES, JSON | st.sampled_from(["ok", "invoke", 0, {"f": "r"}])), max_size=4))
def test_any_maps_are_a_history_or_are_refused(maps):
    assert refusal("\n".join(map(json.dumps, maps)), files.JSONL).count("\n") == 0


# ---- Call/return lists ----------------------------------------------------------------------------------------------


def record(client, call, end, f, value=None, output=None, **more):
    return {"client": client, "call": call, "return": end, "input": {"f": f, "value": value}, "output": output, **more}


def test_call_list_becomes_a_history():
    records = [
        record(0, 100, 300, "write", 1),
        record(1, 200, 400, "read", None, 1),
        record(2, 250, None, "write", 2),
        record(3, 260, 500, "write", 3, type="fail"),
    ]
    ops = files.loads("\n".join(map(json.dumps, records)), files.JSONL).ops
    assert [(op.time, op.process, op.type) for op in ops] == [
        (0, 0, "invoke"), (100, 1, "invoke"), (150, 2, "invoke"), (160, 3, "invoke"), (200, 0, "ok"), (300, 1, "ok"),
        (400, 3, "fail"),
    ]  # fmt: skip
    assert linear.check(ops, {}).valid == "true"


def test_names_as_porcupine_and_etcd_spell_them():
    text = '[{"ClientId": 7, "Input": {"f": "read"}, "Call": 1, "Output": 5, "Return": 9223372036854775807}]'
    recorded = files.loads(text, files.JSON)
    assert recorded.form == files.CALLS
    assert [(op.process, op.type) for op in recorded.ops] == [(7, "invoke")]


def test_calls_that_touch_are_concurrent():
    records = [record(0, 0, 10, "write", 1), record(0, 20, 30, "write", 2), record(1, 30, 40, "read", None, 1)]
    assert linear.check(files.loads(json.dumps(records), files.JSON).ops, {}).valid == "true"
    records[2]["call"] = 31
    assert linear.check(files.loads(json.dumps(records), files.JSON).ops, {}).valid == "false"


def test_a_client_that_overlaps_itself_becomes_two_processes():
    records = [record(0, 0, 10, "write", 1), record(0, 5, 8, "write", 2), record(1, 20, 30, "read", None, 1)]
    ops = files.loads(json.dumps(records), files.JSON).ops
    assert len({op.process for op in ops}) == 3
    assert len(list(calls(ops))) == 3


def test_calls_written_read_back(tmp_path):
    path = tmp_path / "h.calls"
    files.write(path, [op for op in OPS if op.process == 1])
    recorded = files.load(path)
    assert recorded.form == files.CALLS
    (call,) = calls(recorded.ops)
    assert (call.outcome, call.start.f, call.start.key, call.start.value) == ("info", "write", "k", 5)


def test_a_file_name_must_say_which_form_to_write(tmp_path):
    with pytest.raises(HistoryError, match="name the file"):
        files.write(tmp_path / "history.txt", OPS)


# ---- Jepsen's console log -------------------------------------------------------------------------------------------


def test_console_log():
    text = """
INFO  jepsen.core - Running test
INFO  jepsen.util - 0\t:invoke\t:read\tnil
INFO  jepsen.util - 0\t:ok\t:read\tnil
INFO  jepsen.util - 1\t:invoke\t:cas\t[0 4]
INFO  jepsen.util - :nemesis\t:info\t:start\tnil
INFO  jepsen.util - 1\t:info\t:cas\t[0 4]\t:timed-out
"""
    ops = files.loads(text, files.LOG).ops
    assert [(op.process, op.type, op.f, op.value) for op in ops] == [
        (0, "invoke", "read", None), (0, "ok", "read", None), (1, "invoke", "cas", [0, 4]),
        ("nemesis", "info", "start", None), (1, "info", "cas", [0, 4]),
    ]  # fmt: skip
    assert ops[-1].error == "timed-out"


def test_a_log_without_operations_is_refused():
    with pytest.raises(HistoryError, match="no line of this log"):
        files.loads("nothing\nhere", files.LOG)


# ---- Independent keys -----------------------------------------------------------------------------------------------


def op(index, type_, f, value, process=0, key=None):
    return Op(index, -1, process, type_, f, value, key=key)


@pytest.mark.parametrize(
    ("ops", "pairs"),
    [
        ([op(0, "invoke", "read", ["x", None])], True),
        ([op(0, "invoke", "cas", [1, 2])], False),
        ([op(0, "invoke", "cas", ["x", [1, 2]])], True),
        ([op(0, "invoke", "read", None)], False),
        ([op(0, "invoke", "read", ["x", None]), op(1, "invoke", "write", 3, 1)], False),
        ([op(0, "invoke", "txn", [["w", "x", 1], ["w", "y", 1]])], False),
        ([op(0, "invoke", "write", [1, 2], key="k")], False),
        ([], False),
    ],
)
def test_pairs_are_recognised(ops, pairs):
    assert keyed(ops) is pairs


def test_lifting_takes_the_key_out():
    lifted = lift([op(0, "invoke", "read", ["x", None]), op(1, "ok", "read", ["x", 5])])
    assert [(one.key, one.value) for one in lifted] == [("x", None), ("x", 5)]


def test_lifting_what_is_no_pair_is_refused():
    with pytest.raises(HistoryError, match="operation 0"):
        lift([op(0, "invoke", "read", None)], independent=True)
