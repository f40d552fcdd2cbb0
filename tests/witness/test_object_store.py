"""The object store's side: stores that ignore conditions, clients that are not installed, answers that are lost."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from obstore.store import LocalStore, MemoryStore

from durakv.witness.errors import ExistsError, StoreUnfitError
from durakv.witness.store import ask, create
from durakv.witness.store_object import ObjectRegister
from durakv.world.real_object_store import RealObjectStore, open_object_store
from tests.witness.places import key, vote


class FakeStore:
    """Honours conditions as asked to."""

    def __init__(self, *, create_only: bool = True, match: bool = True, accepts: bool = True) -> None:
        self.objects: dict[str, bytes] = {}
        self.create_only = create_only
        self.match = match
        self.accepts = accepts
        # Operations whose confirmation is lost although they happened, and the client library tried again.
        self.repeat = False

    def get(self, name: str) -> tuple[bytes, str] | None:
        data = self.objects.get(name)
        return None if data is None else (data, f'"{data.hex()}"')

    def put_new(self, name: str, body: bytes) -> bool:
        if name in self.objects and self.create_only:
            return False
        self.objects[name] = body
        return not self.repeat

    def put_if(self, name: str, body: bytes, tag: str) -> bool:
        found = self.get(name)
        if self.match and (found is None or found[1] != tag or not self.accepts):
            return False
        self.objects[name] = body
        return not self.repeat


def found(store: FakeStore) -> None:
    create(ObjectRegister(store, "p", key()), b"i" * 16, b"creation")


def test_a_store_that_ignores_conditions_is_refused():
    for store, what in (
        (FakeStore(create_only=False), "If-None-Match"),
        (FakeStore(match=False), "If-Match"),
        (FakeStore(accepts=False), "refused a write whose condition held"),
    ):
        with pytest.raises(StoreUnfitError, match=what):
            found(store)
    found(FakeStore())


def test_writes_that_the_client_repeated_and_took_for_refused_still_count():
    store = FakeStore()
    found(store)
    store.repeat = True
    register = ObjectRegister(store, "p", key())
    assert ask(register, vote(1, 2, (1, 0)), b"question").reply.granted
    assert not ask(register, vote(2, 2, (1, 0)), b"question").reply.granted


def test_a_creation_whose_confirmations_are_lost_is_still_one():
    class Forgetful(FakeStore):
        def put_new(self, name: str, body: bytes) -> bool:
            super().put_new(name, body)
            return False

    store = Forgetful()
    found(store)
    with pytest.raises(ExistsError):
        found(store)


def test_a_store_without_conditional_writes_says_so(tmp_path: Path):
    with pytest.raises(OSError, match="not yet implemented"):
        create(ObjectRegister(RealObjectStore(LocalStore(tmp_path), "local"), "", key()), b"i" * 16, b"creation")


def test_memory_honours_them():
    create(ObjectRegister(RealObjectStore(MemoryStore(), "memory"), "", key()), b"i" * 16, b"creation")


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(OSError, match=r"pip install 'durakv\[s3\]'"):
        open_object_store("bucket", "", "")


def test_a_store_out_of_reach_is_an_os_error_in_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    store = open_object_store("bucket", "http://127.0.0.1:1", "us-east-1")
    for call in (lambda: store.get("x"), lambda: store.put_new("x", b"1"), lambda: store.put_if("x", b"1", '"t"')):
        with pytest.raises(OSError, match="s3://bucket/x: ") as caught:
            call()
        assert "\n" not in str(caught.value)
