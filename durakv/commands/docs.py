"""COMMAND DOCS: arguments, history and deprecation of commands, read from ``data/docs.json`` when first asked for.

Rule: the only reader of that file. It holds what no other part needs and is therefore not declared with the commands;
summary, group, version and, unless the file has a better one, complexity are the declaration's.
One line a command, by its full lower-case name: ``complexity``, ``doc_flags``, ``deprecated_since``, ``replaced_by``,
``history`` (pairs of version and text), ``arguments`` (``name``, ``type``, ``display`` where it is not the name,
``key_spec_index``, ``token``, ``summary``, ``since``, ``deprecated_since``, ``flags``, ``arguments``).
"""

from __future__ import annotations

import json
from functools import cache
from pkgutil import get_data
from typing import TYPE_CHECKING, Any

from durakv.resp.types import Map, Reply, SetReply, Simple

if TYPE_CHECKING:
    from durakv.commands.table import Row


@cache
def facts() -> dict[str, dict[str, Any]]:
    """The file's content."""
    data = get_data("durakv.commands", "data/docs.json")
    assert data is not None
    content: dict[str, dict[str, Any]] = json.loads(data)
    return content


def subcommands(row: Row) -> list[Row]:
    """Those of a container, each once."""
    return list({sub.id: sub for sub in (row.subs or {}).values()}.values())


def row_docs(row: Row) -> Reply:
    """One entry of COMMAND DOCS. Source: server.c addReplyCommandDocs()."""
    d = row.declaration
    more = facts().get(row.name, {})
    flat: list[Reply] = [
        b"summary", d.summary.encode(), b"since", d.since.encode(), b"group", d.group.replace("_", "-").encode(),
        b"complexity", more.get("complexity", d.complexity).encode(),
    ]  # fmt: skip
    if "doc_flags" in more:
        flat += [b"doc_flags", _flags(more["doc_flags"])]
    for name in ("deprecated_since", "replaced_by"):
        if name in more:
            flat += [name.encode(), more[name].encode()]
    if "history" in more:
        history: list[Reply] = [[since.encode(), text.encode()] for since, text in more["history"]]
        flat += [b"history", SetReply(history)]
    if "arguments" in more:
        flat += [b"arguments", [_argument(one) for one in more["arguments"]]]
    subs: list[Reply] = []
    for sub in subcommands(row):
        subs += [sub.name.encode(), row_docs(sub)]
    if subs:
        flat += [b"subcommands", Map(subs)]
    return Map(flat)


def _flags(names: list[str]) -> Reply:
    return SetReply([Simple(name.encode()) for name in names])


def _argument(one: dict[str, Any]) -> Reply:
    """Source: server.c addReplyCommandArgList()."""
    flat: list[Reply] = [b"name", one["name"].encode(), b"type", one["type"].encode()]
    if "arguments" not in one:
        flat += [b"display_text", one.get("display", one["name"]).encode()]
    if "key_spec_index" in one:
        flat += [b"key_spec_index", one["key_spec_index"]]
    for name in ("token", "summary", "since", "deprecated_since"):
        if name in one:
            flat += [name.encode(), one[name].encode()]
    if "flags" in one:
        flat += [b"flags", _flags(one["flags"])]
    if "arguments" in one:
        flat += [b"arguments", [_argument(inner) for inner in one["arguments"]]]
    return Map(flat)
