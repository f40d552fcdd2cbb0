"""Files and flags into Settings; every refusal is one line that names the place and the remedy."""

from __future__ import annotations

import pytest

from durakv.config.directives import BY_NAME, DIRECTIVES
from durakv.config.foreign import FOREIGN
from durakv.config.load import load, split_line
from durakv.config.rewrite import SIGNATURE, rewritten
from durakv.config.settings import ConfigError, Settings


def files(**texts: str):
    def read(path: str) -> str:
        if path not in texts:
            raise FileNotFoundError(2, "No such file or directory", path)
        return texts[path]

    return read


def loaded(text: str, *flags: str) -> Settings:
    return load(["conf", *flags], files(conf=text))


def refusal(text: str, *flags: str) -> str:
    with pytest.raises(ConfigError) as e:
        loaded(text, *flags)
    line = str(e.value)
    assert "\n" not in line
    return line


def test_every_directive_is_a_typed_attribute_of_its_default():
    kinds = {"int": int, "bool": bool, "str": str, "tuple[str, ...]": tuple}
    annotations = Settings.__annotations__
    settings = Settings()
    for d in DIRECTIVES:
        assert d in FOREIGN or type(getattr(settings, d.attribute)) is kinds[annotations[d.attribute]], d.name
        assert settings.value(d.name) == d.default
        assert d.kind.parse(d.kind.show(d.default)) == d.default or d.name == "client-output-buffer-limit"
        assert d.help.endswith(".")
    # What nothing reads has no type either.
    assert set(annotations) == {d.attribute for d in DIRECTIVES} - {d.attribute for d in FOREIGN}


def test_a_file_with_comments_quotes_and_units():
    text = "# top\n\nport 7001\n  maxmemory 64mb\nrequirepass \"a b\\n\\x21\"\nlogfile 'it\\'s'\n"
    s = loaded(text + "BIND 10.0.0.1 ::1\n")
    assert (s.port, s.maxmemory, s.requirepass, s.logfile) == (7001, 64 << 20, "a b\n!", "it's")
    assert s.bind == ("10.0.0.1", "::1")
    assert list(s.given) == ["port", "maxmemory", "requirepass", "logfile", "bind"]


def test_flags_win_over_the_file_and_stand_alone():
    assert loaded("port 1000\n", "--port", "2000", "--peer-port=3000").port == 2000
    assert load(["--maxmemory", "1k"], files()).maxmemory == 1000
    assert load([], files()).port == 6379


def test_units_are_as_in_redis_conf():
    for text, size in (("1", 1), ("1b", 1), ("1k", 1000), ("1kb", 1024), ("2M", 2_000_000), ("1GB", 1 << 30)):
        assert loaded(f"maxmemory {text}\n").maxmemory == size


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port 6379\nmaxmemori 1\n", "conf:2: maxmemori: unknown directive; did you mean maxmemory"),
        ("port x\n", "conf:1: port: argument couldn't be parsed into an integer"),
        ("port 65536\n", "conf:1: port: argument must be between 0 and 65535 inclusive"),
        ("maxmemory 1tb\n", "conf:1: maxmemory: argument must be a memory value"),
        ("protected-mode maybe\n", "conf:1: protected-mode: argument must be 'yes' or 'no'"),
        ("loglevel loud\n", "conf:1: loglevel: argument(s) must be one of the following: debug"),
        ("maxmemory-policy lru\n", "conf:1: maxmemory-policy: argument(s) must be one of the following: noeviction"),
        ("daemonize yes\n", "conf:1: daemonize: durakv stays in the foreground"),
        ("durability-default async\n", "conf:1: durability-default: only quorum is offered now"),
        ("port\n", 'conf:1: port: needs a value; write "port <value>" (its default is "6379")'),
        ("port 1 2\n", "conf:1: port: takes one value, not 2"),
        ('logfile "x\n', "conf:1: quotes: a quote is not closed"),
        ('logfile "x"y\n', "conf:1: quotes: a blank must follow a closing quote"),
        ("include other\n", "conf:1: other: cannot read it: No such file or directory"),
        ("include conf\n", "conf:1: include: more than 8 levels deep"),
        ("election-timeout-ms 150\n", "election-timeout-ms: 150 is less than twice heartbeat-interval-ms 100"),
        ("heartbeat-interval-ms 10\n", "heartbeat-interval-ms: 10 is less than tick-ms 20"),
        ("port 60000\n", "peer-port: port 60000 + 10000 is above 65535"),
        ("peer-port 6379\n", "peer-port: is the same as port 6379"),
        ("cluster-id xyz\n", "cluster-id: must be 32 lower-case hex digits"),
        ("join yes\n", "join: needs cluster-id and node-id"),
    ],
)  # fmt: skip
def test_refusals_name_place_directive_and_remedy(text, said):
    assert refusal(text).startswith(said)


def test_bad_flags_are_named_as_flags():
    assert refusal("", "--prot", "1").startswith("--prot: prot: unknown directive; did you mean port")
    assert refusal("", "loose").startswith("command line: loose: is not a flag")
    assert refusal("", "--port").startswith("--port: port: needs a value")


def test_includes_are_read_in_place():
    s = load(["a"], files(a="port 1000\ninclude b\ntimeout 5\n", b="port 2000\n"))
    assert (s.port, s.timeout) == (2000, 5)


def test_repeated_save_lines_add_up_and_empty_clears():
    assert loaded("save 900 1\nsave 300 10\n").save == "900 1 300 10"
    assert loaded('save 900 1\nsave ""\n').save == ""


def test_split_line_of_odd_shapes():
    assert split_line("  # x") == []
    assert split_line("a \"\" 'b'") == ["a", "", "b"]
    with pytest.raises(ConfigError):
        split_line('a "\\xzz"')


def test_set_many_changes_all_or_nothing():
    s = Settings()
    with pytest.raises(ConfigError) as e:
        s.set_many([("timeout", "5"), ("maxclients", "0")])
    assert (e.value.name, s.timeout) == ("maxclients", 0)
    with pytest.raises(ConfigError, match="immutable"):
        s.set("port", "1")
    with pytest.raises(ConfigError, match="duplicate"):
        s.set_many([("repl-timeout", "1"), ("repl-timeout", "2")])
    with pytest.raises(ConfigError) as unknown:
        s.set("nope", "1")
    assert not unknown.value.known


def test_watchers_hear_changes_and_may_refuse_them():
    s = Settings()
    heard: list[tuple[str, int]] = []

    def refuse(name: str) -> None:
        heard.append((name, s.maxclients))
        if s.maxclients > 100:
            raise ValueError("not enough file descriptors")

    s.watch("timeout", lambda name: heard.append((name, s.timeout)))
    s.watch("maxclients", lambda name: heard.append(("before", s.maxclients)))
    s.watch("maxclients", refuse)
    s.set("maxclients", "50")
    with pytest.raises(ConfigError, match="not enough file descriptors"):
        s.set_many([("timeout", "9"), ("maxclients", "500")])
    assert (s.maxclients, s.timeout) == (50, 0)
    # Who took the change hears of its end; who refused it never had it.
    assert heard == [
        ("before", 50), ("maxclients", 50), ("timeout", 9), ("before", 500), ("maxclients", 500), ("timeout", 0),
        ("before", 50),
    ]  # fmt: skip


def test_a_refused_change_leaves_a_value_that_would_be_refused_as_well():
    s = Settings()
    s.load("maxclients", "500")

    def refuse(name: str) -> None:
        raise ValueError("not enough file descriptors")

    s.watch("maxclients", refuse)
    with pytest.raises(ConfigError, match="not enough file descriptors"):
        s.set("maxclients", "600")
    assert s.maxclients == 500


def test_get_matches_names_aliases_and_globs():
    s = Settings()
    assert s.get("PORT") == [("port", "6379")]
    assert s.get("slave-priority") == [("slave-priority", "100")]
    assert s.get("nope") == []
    assert {name for name, _ in s.get("*max-listpack-value")} == {
        "hash-max-listpack-value", "set-max-listpack-value", "zset-max-listpack-value",
    }  # fmt: skip
    assert len(s.get("*")) == len(BY_NAME)


def test_output_limits_merge_by_class():
    s = Settings()
    s.set("client-output-buffer-limit", "replica 1mb 2mb 3")
    assert s.output_limit("slave") == (1 << 20, 2 << 20, 3)
    assert s.output_limit("pubsub") == (33554432, 8388608, 60)


def test_rewrite_keeps_comments_order_and_spelling():
    text = "# mine\nport 6379\n\n  maxmemory 64mb # not a comment, as in Valkey\n"
    with pytest.raises(ConfigError):
        loaded(text)
    text = "# mine\nport 6379\n\nmaxmemory 64mb\ntimeout 1\ntimeout 2\n# end\n"
    s = loaded(text)
    s.set("timeout", "30")
    s.set("requirepass", 'p "w')
    out = rewritten(s, text)
    assert out == f'# mine\nport 6379\n\nmaxmemory 64mb\ntimeout 30\n# end\n{SIGNATURE}\nrequirepass "p \\"w"\n'
    again = loaded(out)
    assert (again.requirepass, again.timeout) == ('p "w', 30)
    assert rewritten(again, out) == out
