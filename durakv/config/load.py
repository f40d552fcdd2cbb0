"""Start-up configuration: a redis.conf-style file, then ``--directive value`` flags, into one Settings.

Rule: stops at the first thing it does not understand, with one line that names the place, the directive, what is wrong
and the remedy. It reads files only through the reader it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from durakv.config.directives import BY_NAME
from durakv.config.settings import ConfigError, Settings
from durakv.config.values import Words

ReadText = Callable[[str], str]

_INCLUDE_DEPTH_MAX: Final = 8
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "a": "\a"}


def load(args: Sequence[str], read_text: ReadText) -> Settings:
    """Settings from command-line arguments: an optional file first, then flags. Raises ConfigError.

    ``read_text(path)`` returns a file's text and may raise OSError. ``-`` as the file is the reader's business.
    """
    settings = Settings()
    rest = list(args)
    if rest and not rest[0].startswith("--"):
        path = rest.pop(0)
        settings.config_file = path
        load_text(settings, _read(path, read_text, ""), path, read_text)
    _load_flags(settings, rest)
    settings.check()
    return settings


def load_text(settings: Settings, text: str, path: str, read_text: ReadText, depth: int = 0) -> None:
    """Apply the lines of one file. Raises ConfigError naming ``path:line``."""
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{path}:{number}"
        words = split_line(line, where)
        if not words:
            continue
        if words[0].lower() == "include":
            if depth >= _INCLUDE_DEPTH_MAX:
                reason = f"more than {_INCLUDE_DEPTH_MAX} levels deep; is there a loop?"
                raise ConfigError("include", reason, where=where)
            for inner in words[1:]:
                load_text(settings, _read(inner, read_text, where), inner, read_text, depth + 1)
            continue
        _load_words(settings, words, where)


def split_line(line: str, where: str = "") -> list[str]:
    """Words of a configuration line; quotes as in redis.conf; ``[]`` for blanks and comments. Raises ConfigError."""
    text = line.strip()
    if not text or text.startswith("#"):
        return []
    words: list[str] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        word, at = _quoted(text, at, where) if text[at] in "\"'" else _bare(text, at)
        words.append(word)
    return words


def _bare(text: str, at: int) -> tuple[str, int]:
    end = at
    while end < len(text) and not text[end].isspace():
        end += 1
    return text[at:end], end


def _quoted(text: str, at: int, where: str) -> tuple[str, int]:
    quote = text[at]
    out: list[str] = []
    i = at + 1
    while i < len(text) and text[i] != quote:
        if text[i] == "\\" and i + 1 < len(text) and (quote == '"' or text[i + 1] == "'"):
            follow = text[i + 1]
            if follow == "x" and quote == '"' and len(text[i + 2 : i + 4]) == 2:
                try:
                    out.append(chr(int(text[i + 2 : i + 4], 16)))
                except ValueError:
                    raise ConfigError("quotes", "\\x needs two hex digits", where=where) from None
                i += 4
                continue
            out.append(_ESCAPES.get(follow, follow) if quote == '"' else follow)
            i += 2
            continue
        out.append(text[i])
        i += 1
    if i >= len(text):
        raise ConfigError("quotes", "a quote is not closed; add it or escape it with \\", where=where)
    if i + 1 < len(text) and not text[i + 1].isspace():
        raise ConfigError("quotes", "a blank must follow a closing quote", where=where)
    return "".join(out), i + 1


def _load_words(settings: Settings, words: list[str], where: str) -> None:
    name, values = words[0].lower(), words[1:]
    if name == "rename-command":
        if len(values) != 2:
            raise ConfigError(name, 'needs a command and its new name; write "" for none', where=where)
        settings.renames.append((values[0], values[1]))
        return
    if name == "user":
        settings.user_lines.append(" ".join(words))
        return
    directive = BY_NAME.get(name)
    if directive is not None:
        many = isinstance(directive.kind, Words) or directive.name == "save"
        if not values:
            raise ConfigError(name, f'needs a value; write "{name} <value>" (its default is '
                              f'"{directive.kind.show(directive.default)}")', where=where)  # fmt: skip
        if len(values) > 1 and not many:
            raise ConfigError(name, f"takes one value, not {len(values)}; put quotes around a value with blanks",
                              where=where)  # fmt: skip
        if directive.name == "save" and values != [""] and settings.save and "save" in settings.given:
            values = [settings.save, *values]
    settings.load(name, " ".join(values), where)


def _load_flags(settings: Settings, args: list[str]) -> None:
    words: list[str] = []
    for arg in args:
        if arg.startswith("--") and len(arg) > 2:
            if words:
                _load_words(settings, words, f"--{words[0]}")
            name, equals, value = arg[2:].partition("=")
            words = [name, value] if equals else [name]
        elif words:
            words.append(arg)
        else:
            raise ConfigError(arg, "is not a flag; write --directive value", where="command line")
    if words:
        _load_words(settings, words, f"--{words[0]}")


def _read(path: str, read_text: ReadText, where: str) -> str:
    try:
        return read_text(path)
    except OSError as e:
        raise ConfigError(path, f"cannot read it: {e.strerror or e}", where=where or "command line") from None
    except UnicodeDecodeError as e:
        reason = f"byte {e.start} is not UTF-8; is this a configuration file?"
        raise ConfigError(path, reason, where=where or "command line") from None
