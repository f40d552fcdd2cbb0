"""Whether a file is a sound LMDB store, found out without LMDB, which trusts every number in its pages. [compiled]

LMDB has no checksums of pages: one flipped bit of a page number, an offset or a count may end the process that reads
it, send a search astray, or make a writer reuse a page in use. So before the file may be opened every page that can be
reached is looked at: its number and kind, that all its nodes lie within it and fill it, that keys on a page lie
between those its parent names, that each page has one owner (a tree, or the list of free pages), and that depths and
counts are as recorded. What is inside a row is not looked at: rows have their own checksums, which, with the sums and
the order of rows, load.py and verify.py check.
Rule: the only place that knows LMDB's file format (data version 1, 64 bits). It must not know rows.
"""

from __future__ import annotations

import struct
import sys
from typing import Final

from durakv.checkpoint.damage import CheckpointDamaged, CheckpointUnfit
from durakv.world.ports import File

_MAGIC: Final = 0xBEEFC0DE
_VERSION: Final = 1
_BRANCH: Final = 1
_LEAF: Final = 2
_OVERFLOW: Final = 4
_META: Final = 8
_NO_PAGE: Final = (1 << 64) - 1
_BIG_DATA: Final = 1
_SUB_DB: Final = 2
_INTEGER_KEY: Final = 8
_PAGE_HEAD: Final = 16
_NODE_HEAD: Final = 8
_KEY_BYTES_MAX: Final = 511
_DEPTH_MAX: Final = 32
_DB_BYTES: Final = 48
_WARM_BYTES: Final = 1 << 20

# number, pad, flags, lower, upper
_HEAD: Final = struct.Struct("<QHHHH")
_RUN: Final = struct.Struct("<QHHI")
# magic, version, address, map size
_META_HEAD: Final = struct.Struct("<IIQQ")
_META_TAIL: Final = struct.Struct("<QQ")
# pad, flags, depth, branch pages, leaf pages, overflow pages, entries, root
_DB: Final = struct.Struct("<IHHQQQQQ")
_U64: Final = struct.Struct("<Q")
_PAGE_SIZES: Final = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)


class PageReport:
    """What was found. ``lost`` pages belong to nobody, which is harmless."""

    __slots__ = ("free", "lost", "page_bytes", "pages", "transaction", "used")

    def __init__(self, page_bytes: int, pages: int, transaction: int) -> None:
        self.page_bytes = page_bytes
        self.pages = pages
        self.transaction = transaction
        self.used = 0
        self.free = 0
        self.lost = 0


class _Tree:
    """A tree as its owner describes it, and what the walk has counted so far."""

    __slots__ = (
        "branches",
        "branches_seen",
        "depth",
        "entries",
        "entries_seen",
        "flags",
        "leaves",
        "leaves_seen",
        "name",
        "overflow",
        "overflow_seen",
        "pad",
        "root",
    )  # fmt: skip

    def __init__(self, name: str, data: bytes, at: int) -> None:
        self.name = name
        pad, flags, depth, branches, leaves, overflow, entries, root = _DB.unpack_from(data, at)
        self.pad: int = pad
        self.flags: int = flags
        self.depth: int = depth
        self.branches: int = branches
        self.leaves: int = leaves
        self.overflow: int = overflow
        self.entries: int = entries
        self.root: int = root
        self.branches_seen = 0
        self.leaves_seen = 0
        self.overflow_seen = 0
        self.entries_seen = 0


def check_pages(file: File, path: str) -> PageReport:
    """Look at every page of the last commit. Raises CheckpointDamaged, CheckpointUnfit, OSError."""
    return _Walk(file, path).run()


class _Walk:
    """One check of one file."""

    __slots__ = (
        "_at",
        "_data",
        "_file",
        "_free_lists",
        "_last",
        "_owners",
        "_page_bytes",
        "_path",
        "_pieces",
        "_trees",
    )

    def __init__(self, file: File, path: str) -> None:
        self._file = file
        self._path = path
        self._page_bytes = 0
        self._last = 0
        self._owners = bytearray()
        self._trees: list[_Tree] = []
        self._free_lists: list[bytes] = []

    def run(self) -> PageReport:
        if sys.byteorder != "little":
            raise CheckpointUnfit(f"{self._path}: checkpoints are for little-endian processors")
        size = self._file.size()
        first = self._file.pread(min(size, 65536), 0)
        if len(first) < 1024:
            raise self._damaged(0, f"a file of {size} bytes is no store")
        page_bytes: int = _DB.unpack_from(first, _PAGE_HEAD + _META_HEAD.size)[0]
        if page_bytes not in _PAGE_SIZES:
            raise self._damaged(0, f"pages of {page_bytes} bytes")
        self._page_bytes = page_bytes
        metas = [self._meta(0), self._meta(1)]
        transactions = [int(_META_TAIL.unpack_from(meta, 120)[1]) for meta in metas]
        newer = 1 if transactions[1] > transactions[0] else 0
        # Commits take turns, so the numbers are neighbours and tell which page they are on.
        if transactions != [0, 0] and (
            transactions[newer] - transactions[1 - newer] != 1 or transactions[newer] % 2 != newer
        ):
            raise self._damaged(0, f"its two heads are of commits {transactions[0]} and {transactions[1]}")
        meta = metas[newer]
        self._last = int(_META_TAIL.unpack_from(meta, 120)[0])
        if (self._last + 1) * page_bytes > size or self._last < 1:
            raise self._damaged(newer, f"it should have {self._last + 1} pages, the file has {size // page_bytes}")
        self._owners = bytearray(self._last + 1)
        self._owners[0] = self._owners[1] = 1
        self._warm()
        free = _Tree("list of free pages", meta, 24)
        main = _Tree("list of databases", meta, 72)
        if free.flags != _INTEGER_KEY or free.pad != page_bytes or main.flags != 0 or main.pad != 0:
            raise self._damaged(newer, "the flags of the store are not those durakv uses")
        self._walk(free)
        self._walk(main)
        for tree in self._trees:
            if tree.flags != 0 or tree.pad != 0:
                raise self._damaged(newer, f"the flags of {tree.name} are not those durakv uses")
            self._walk(tree)
        report = PageReport(page_bytes, self._last + 1, transactions[newer])
        report.used = self._last + 1 - self._owners.count(0)
        self._free_pages()
        report.lost = self._owners.count(0)
        report.free = self._last + 1 - report.used - report.lost
        return report

    # -- pages ----------------------------------------------------------------------------------------------------

    def _warm(self) -> None:
        """Have the kernel read the file from front to back: page by page, in order of keys, would take far longer."""
        for at in range(0, (self._last + 1) * self._page_bytes, _WARM_BYTES):
            self._file.pread(_WARM_BYTES, at)

    def _meta(self, number: int) -> bytes:
        page = self._file.pread(self._page_bytes, number * self._page_bytes)
        if len(page) < self._page_bytes:
            raise self._damaged(number, "the file ends here")
        own, _, flags, _, _ = _HEAD.unpack_from(page)
        magic, version, address, _ = _META_HEAD.unpack_from(page, _PAGE_HEAD)
        if own != number or flags != _META or magic != _MAGIC or version != _VERSION or address != 0:
            raise self._damaged(number, "this is no head of a store")
        return page[_PAGE_HEAD:]

    def _page(self, number: int, owner: str) -> bytes:
        """A page that has no owner yet, read from the file."""
        if not 2 <= number <= self._last:
            raise self._damaged(number, f"{owner} refers to it, and there is no such page")
        if self._owners[number]:
            raise self._damaged(number, f"{owner} refers to it, and something else does too")
        self._owners[number] = 1
        page = self._file.pread(self._page_bytes, number * self._page_bytes)
        if len(page) != self._page_bytes:
            raise self._damaged(number, "the file ends here")
        return page

    def _walk(self, tree: _Tree) -> None:
        if tree.root == _NO_PAGE:
            if tree.depth or tree.entries or tree.branches or tree.leaves or tree.overflow:
                raise self._damaged(0, f"{tree.name} has no pages and is not empty")
            return
        if not 1 <= tree.depth <= _DEPTH_MAX:
            raise self._damaged(tree.root, f"{tree.name} has depth {tree.depth}")
        self._subtree(tree, tree.root, 1, b"", None)
        if (
            tree.branches_seen != tree.branches
            or tree.leaves_seen != tree.leaves
            or tree.overflow_seen != tree.overflow
            or tree.entries_seen != tree.entries
        ):
            raise self._damaged(tree.root, f"{tree.name} has other counts of pages or rows than it says")

    def _subtree(self, tree: _Tree, number: int, depth: int, low: bytes, high: bytes | None) -> None:
        """Check a page and all below it; its keys are >= ``low`` and < ``high``."""
        page = self._page(number, tree.name)
        own, _, flags, lower, upper = _HEAD.unpack_from(page)
        kind = _LEAF if depth == tree.depth else _BRANCH
        if own != number or flags != kind:
            raise self._damaged(number, f"it should be page {number} of {tree.name}, at depth {depth}")
        first: int = lower
        start: int = upper
        if first % 2 or not _PAGE_HEAD < first <= start <= self._page_bytes:
            raise self._damaged(number, "its bounds are wrong")
        count = (first - _PAGE_HEAD) // 2
        offsets: list[int] = list(struct.unpack_from(f"<{count}H", page, _PAGE_HEAD))
        if kind == _BRANCH:
            tree.branches_seen += 1
            self._branch(tree, number, page, offsets, start, depth, low, high)
        else:
            tree.leaves_seen += 1
            tree.entries_seen += count
            self._leaf(tree, number, page, offsets, start, low, high)

    def _branch(
        self, tree: _Tree, number: int, page: bytes, offsets: list[int], start: int, depth: int, low: bytes,
        high: bytes | None,
    ) -> None:  # fmt: skip
        size = self._page_bytes
        filled = 0
        children: list[int] = []
        keys: list[bytes] = []
        for i in range(len(offsets)):
            at = offsets[i]
            if at < start or at % 2 or at + _NODE_HEAD > size:
                raise self._damaged(number, f"node {i} lies outside of it")
            key_bytes = page[at + 6] | page[at + 7] << 8
            end = at + _NODE_HEAD + key_bytes
            if end > size or key_bytes > _KEY_BYTES_MAX:
                raise self._damaged(number, f"the key of node {i} lies outside of it")
            filled += _NODE_HEAD + key_bytes + key_bytes % 2
            children.append(int.from_bytes(page[at : at + 6], "little"))
            # The first key is never looked at: all that is less than the second belongs there.
            keys.append(page[at + _NODE_HEAD : end] if i else low)
        if filled != size - start:
            raise self._damaged(number, "its nodes do not fill it")
        integers = tree.flags == _INTEGER_KEY
        for i in range(1, len(keys)):
            if not _before(keys[i - 1], keys[i], integers) and (i > 1 or keys[i - 1] != keys[i]):
                raise self._damaged(number, f"the key of node {i} is not after the one before it")
        if len(keys) > 1 and high is not None and not _before(keys[-1], high, integers):
            raise self._damaged(number, "its last key belongs to another page")
        for i in range(len(children)):
            self._subtree(tree, children[i], depth + 1, keys[i], keys[i + 1] if i + 1 < len(keys) else high)

    def _leaf(
        self, tree: _Tree, number: int, page: bytes, offsets: list[int], start: int, low: bytes, high: bytes | None
    ) -> None:
        size = self._page_bytes
        filled = 0
        at = 0
        key_bytes = 0
        for i in range(len(offsets)):
            at = offsets[i]
            if at < start or at % 2 or at + _NODE_HEAD > size:
                raise self._damaged(number, f"node {i} lies outside of it")
            data_bytes = page[at] | page[at + 1] << 8 | page[at + 2] << 16 | page[at + 3] << 24
            flags = page[at + 4] | page[at + 5] << 8
            key_bytes = page[at + 6] | page[at + 7] << 8
            data_at = at + _NODE_HEAD + key_bytes
            node_bytes = _NODE_HEAD + key_bytes + (8 if flags == _BIG_DATA else data_bytes)
            if at + node_bytes > size or not 1 <= key_bytes <= _KEY_BYTES_MAX:
                raise self._damaged(number, f"node {i} lies outside of it")
            filled += node_bytes + node_bytes % 2
            if flags == _BIG_DATA:
                self._run(tree, int(_U64.unpack_from(page, data_at)[0]), data_bytes)
            elif flags == _SUB_DB:
                if tree.name != "list of databases" or data_bytes != _DB_BYTES:
                    raise self._damaged(number, f"node {i} is a database within {tree.name}")
                self._trees.append(_Tree(f"database {page[at + _NODE_HEAD : data_at]!r}", page, data_at))
            elif flags != 0:
                raise self._damaged(number, f"node {i} has unknown flags")
            if tree.flags == _INTEGER_KEY:
                self._free_row(number, page, at, flags, data_bytes, key_bytes)
        if filled != size - start:
            raise self._damaged(number, "its nodes do not fill it")
        integers = tree.flags == _INTEGER_KEY
        at = offsets[0]
        first = page[at + _NODE_HEAD : at + _NODE_HEAD + (page[at + 6] | page[at + 7] << 8)]
        at = offsets[-1]
        last = page[at + _NODE_HEAD : at + _NODE_HEAD + key_bytes]
        if (low and _before(first, low, integers)) or (high is not None and not _before(last, high, integers)):
            raise self._damaged(number, "its keys belong to another page")

    def _run(self, tree: _Tree, number: int, data_bytes: int) -> None:
        """The pages of a value that has its own."""
        if not 2 <= number <= self._last:
            raise self._damaged(number, f"a value of {tree.name} should be there, and there is no such page")
        own, _, flags, count = _RUN.unpack(self._file.pread(_PAGE_HEAD, number * self._page_bytes))
        # A value that shrank keeps its pages.
        needed = (_PAGE_HEAD + data_bytes + self._page_bytes - 1) // self._page_bytes
        if own != number or flags != _OVERFLOW or count < needed or number + count - 1 > self._last:
            raise self._damaged(number, f"a value of {tree.name} should be there")
        if self._owners.count(0, number, number + count) != count:
            raise self._damaged(number, f"a value of {tree.name} should be there, and something else refers to it")
        self._owners[number : number + count] = b"\x01" * count
        tree.overflow_seen += count

    # -- free pages -----------------------------------------------------------------------------------------------

    def _free_row(self, number: int, page: bytes, at: int, flags: int, data_bytes: int, key_bytes: int) -> None:
        if key_bytes != 8 or data_bytes < 8 or data_bytes % 8 or flags == _SUB_DB:
            raise self._damaged(number, "a row of the list of free pages has the wrong size")
        data_at = at + _NODE_HEAD + key_bytes
        if flags == _BIG_DATA:
            run: int = _U64.unpack_from(page, data_at)[0]
            data = self._file.pread(data_bytes, run * self._page_bytes + _PAGE_HEAD)
            if len(data) != data_bytes:
                raise self._damaged(run, "the file ends here")
        else:
            data = page[data_at : data_at + data_bytes]
        self._free_lists.append(data)

    def _free_pages(self) -> None:
        """No free page may be in use, or be free twice."""
        owners = self._owners
        for data in self._free_lists:
            numbers: list[int] = list(struct.unpack(f"<{len(data) // 8}Q", data))
            count = numbers[0]
            if count != len(numbers) - 1:
                raise self._damaged(0, f"{len(numbers) - 1} free pages are listed, {count} should be")
            before = _NO_PAGE
            for i in range(1, len(numbers)):
                number = numbers[i]
                if not 2 <= number <= self._last or number >= before:
                    raise self._damaged(0, f"page {number} cannot be free")
                if owners[number]:
                    raise self._damaged(number, "it is listed as free and in use")
                owners[number] = 1
                before = number

    def _damaged(self, number: int, detail: str) -> CheckpointDamaged:
        return CheckpointDamaged(f"{self._path}, page {number}", detail)


def _before(one: bytes, two: bytes, integers: bool) -> bool:
    """Whether a key comes before another; an empty one comes before all."""
    if integers:
        return int.from_bytes(one, "little") < int.from_bytes(two, "little")
    return one < two
