"""Kinds of directive values: text in, a checked Python value out, and the text CONFIG GET shows.

Rule: the only place that knows how a value is spelt; a kind knows nothing of any particular directive. Refusals are
ValueError with Valkey's words, which CONFIG SET and the file loader put behind the directive's name.
"""

from __future__ import annotations

from typing import Final, TypeAlias

Value: TypeAlias = int | bool | str | tuple[str, ...]

_UNITS: Final = {
    "": 1, "b": 1, "k": 1000, "kb": 1024, "m": 1000**2, "mb": 1024**2, "g": 1000**3, "gb": 1024**3,
}  # fmt: skip
_EVENT_FLAGS: Final = "Ag$lshzxeKEtmdn"


def parse_size(text: str) -> int:
    """Bytes from ``100``, ``64mb`` (1024-based with b), ``1g`` (1000-based). Raises ValueError."""
    digits = text.rstrip("bBkKmMgG")
    unit = text[len(digits) :].lower()
    if unit not in _UNITS or not digits.removeprefix("-").isdecimal():
        raise ValueError("argument must be a memory value")
    return int(digits) * _UNITS[unit]


class Kind:
    """How one type of value is read and shown."""

    def parse(self, text: str) -> Value:
        """The value in ``text``. Raises ValueError with the reason."""
        raise NotImplementedError

    def show(self, value: Value) -> str:
        """The text CONFIG GET answers and CONFIG REWRITE writes."""
        return str(value)


class Integer(Kind):
    """An integer within inclusive bounds; ``size`` accepts memory units."""

    def __init__(self, low: int, high: int, *, size: bool = False, octal: bool = False) -> None:
        self.low = low
        self.high = high
        self.size = size
        self.octal = octal

    def parse(self, text: str) -> Value:
        """See Kind."""
        if self.size:
            value = parse_size(text)
        elif self.octal:
            try:
                value = int(text, 8)
            except ValueError:
                raise ValueError("argument couldn't be parsed as an octal number") from None
        else:
            if not text.removeprefix("-").isdecimal() or len(text) > 20:
                raise ValueError("argument couldn't be parsed into an integer")
            value = int(text)
        if not self.low <= value <= self.high:
            raise ValueError(f"argument must be between {self.low} and {self.high} inclusive")
        return value

    def show(self, value: Value) -> str:
        """See Kind."""
        return f"{value:o}" if self.octal and isinstance(value, int) else str(value)


class ShareOrSize(Kind):
    """Bytes, or ``n%`` of maxmemory; a share is kept as its negative."""

    def parse(self, text: str) -> Value:
        """See Kind."""
        if text.endswith("%"):
            digits = text[:-1]
            if not digits.isdecimal() or int(digits) > 100:
                raise ValueError("argument must be a memory or percent value")
            return -int(digits)
        try:
            value = parse_size(text)
        except ValueError:
            raise ValueError("argument must be a memory or percent value") from None
        if value < 0:
            raise ValueError("argument must be a memory or percent value")
        return value

    def show(self, value: Value) -> str:
        """See Kind."""
        assert isinstance(value, int)
        return f"{-value}%" if value < 0 else str(value)


class YesNo(Kind):
    """yes or no."""

    def parse(self, text: str) -> Value:
        """See Kind."""
        word = text.lower()
        if word not in ("yes", "no"):
            raise ValueError("argument must be 'yes' or 'no'")
        return word == "yes"

    def show(self, value: Value) -> str:
        """See Kind."""
        return "yes" if value else "no"


class Choice(Kind):
    """One of a few words, any case. ``later`` are words of Valkey that durakv knows and does not offer (yet)."""

    def __init__(self, *words: str, later: dict[str, str] | None = None) -> None:
        self.words = words
        self.later = later or {}

    def parse(self, text: str) -> Value:
        """See Kind."""
        word = text.lower()
        if word in self.later:
            raise ValueError(self.later[word])
        if word not in self.words:
            raise ValueError("argument(s) must be one of the following: " + ", ".join(self.words))
        return word


class Text(Kind):
    """Any text."""

    def parse(self, text: str) -> Value:
        """See Kind."""
        return text


class HostName(Kind):
    """A name that may be told to clients."""

    def parse(self, text: str) -> Value:
        """See Kind."""
        if not all(letter.isascii() and (letter.isalnum() or letter in "-.") for letter in text):
            raise ValueError("Hostnames may only contain alphanumeric characters, hyphens or dots")
        return text


class Only(Kind):
    """A directive of Valkey that durakv understands but offers with one value only; others are refused with why."""

    def __init__(self, kind: Kind, allowed: Value, reason: str) -> None:
        self.kind = kind
        self.allowed = allowed
        self.reason = reason

    def parse(self, text: str) -> Value:
        """See Kind."""
        value = self.kind.parse(text)
        if value != self.allowed:
            raise ValueError(self.reason)
        return value

    def show(self, value: Value) -> str:
        """See Kind."""
        return self.kind.show(value)


class Words(Kind):
    """Words separated by blanks."""

    def __init__(self, count_max: int) -> None:
        self.count_max = count_max

    def parse(self, text: str) -> Value:
        """See Kind."""
        words = tuple(text.split())
        if len(words) > self.count_max:
            raise ValueError(f"at most {self.count_max} words are allowed")
        return words

    def show(self, value: Value) -> str:
        """See Kind."""
        assert isinstance(value, tuple)
        return " ".join(value)


class Choices(Words):
    """A few words out of a list, any case."""

    def __init__(self, *words: str) -> None:
        super().__init__(len(words))
        self.words = words

    def parse(self, text: str) -> Value:
        """See Kind."""
        words = text.lower().split()
        if not words or any(word not in self.words for word in words):
            raise ValueError("argument(s) must be one of the following: " + ", ".join(self.words))
        return tuple(words)


class Integers(Words):
    """A fixed number of integers within inclusive bounds."""

    def __init__(self, count: int, low: int, high: int) -> None:
        super().__init__(count)
        self.each = Integer(low, high)

    def parse(self, text: str) -> Value:
        """See Kind."""
        words = text.split()
        if len(words) != self.count_max:
            raise ValueError("wrong number of arguments")
        for word in words:
            self.each.parse(word)
        return tuple(words)


class OutputLimits(Words):
    """``class hard soft soft-seconds`` for one or more of normal, replica (slave) and pubsub."""

    def __init__(self) -> None:
        super().__init__(12)

    def parse(self, text: str) -> Value:
        """See Kind. The result keeps only the classes named; Settings merges them into the current ones."""
        words = text.split()
        if not words or len(words) % 4:
            raise ValueError("Wrong number of arguments in buffer limit configuration.")
        out: list[str] = []
        for i in range(0, len(words), 4):
            name = words[i].lower()
            if name == "replica":
                name = "slave"
            if name not in ("normal", "slave", "pubsub"):
                raise ValueError("Invalid client class specified in buffer limit configuration.")
            try:
                hard, soft = parse_size(words[i + 1]), parse_size(words[i + 2])
                seconds = int(words[i + 3])
            except ValueError:
                hard = soft = seconds = -1
            if min(hard, soft, seconds) < 0:
                raise ValueError("Error in hard, soft or soft_seconds setting in buffer limit configuration.")
            out += [name, str(hard), str(soft), str(seconds)]
        return tuple(out)

    def merge(self, old: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
        """``old`` with the classes of ``new`` replaced."""
        table = {old[i]: old[i : i + 4] for i in range(0, len(old), 4)}
        table.update({new[i]: new[i : i + 4] for i in range(0, len(new), 4)})
        return tuple(word for name in ("normal", "slave", "pubsub") for word in table[name])


class EventFlags(Kind):
    """The letters of notify-keyspace-events; shown in canonical order, ``A`` for all of ``g$lshzxetdn``."""

    def parse(self, text: str) -> Value:
        """See Kind."""
        if any(letter not in _EVENT_FLAGS for letter in text):
            raise ValueError("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")
        letters = "g$lshzxetd" + text.replace("A", "") if "A" in text else text
        everything = all(letter in letters for letter in "g$lshzxetd")
        shown = "A" if everything else "".join(letter for letter in "g$lshzxetd" if letter in letters)
        for letter in "nKEm":
            if letter in letters:
                shown += letter
        return shown


class SavePoints(Kind):
    """``save``: accepted and kept for tools that read it back; the log is always durable, so it triggers nothing."""

    def parse(self, text: str) -> Value:
        """See Kind."""
        words = text.split()
        if len(words) % 2 or not all(word.isdecimal() for word in words):
            raise ValueError("Invalid save parameters")
        return " ".join(words)


class Percentiles(Words):
    """Numbers from 0 to 100."""

    def parse(self, text: str) -> Value:
        """See Kind."""
        words = super().parse(text)
        assert isinstance(words, tuple)
        shown: list[str] = []
        for word in words:
            try:
                number = float(word)
            except ValueError:
                raise ValueError("Invalid latency-tracking-info-percentiles parameters") from None
            if not 0.0 <= number <= 100.0:
                raise ValueError("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]")
            shown.append(f"{number:g}")
        return tuple(shown)
