"""Witness addresses: what is one, and that its text is one word that comes back as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durakv.witness.address import WitnessAddress


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("tcp://w.example.com:7400", ""),
        ("tcp://127.0.0.1:1", ""),
        ("tcp://[::1]:65535", ""),
        ("file:///mnt/shared/witness", ""),
        ("file:///mnt/shared/witness/", "file:///mnt/shared/witness"),
        ("file:///mnt/with%20space", ""),
        ("s3://bucket/some/prefix", ""),
        ("s3://bucket", "s3://bucket/"),
        ("s3://bucket/p/?region=eu-west-1", "s3://bucket/p?region=eu-west-1"),
        ("s3://bucket/p?endpoint=http://127.0.0.1:9000&region=x",
         "s3://bucket/p?endpoint=http%3A%2F%2F127.0.0.1%3A9000&region=x"),
    ],
)  # fmt: skip
def test_addresses(text: str, canonical: str):
    address = WitnessAddress.parse(text)
    assert address.text() == (canonical or text)
    assert WitnessAddress.parse(address.text()) == address
    assert " " not in address.text()


def test_the_fields():
    tcp = WitnessAddress.parse("tcp://[::1]:7400")
    assert (tcp.scheme, tcp.host, tcp.port) == ("tcp", "::1", 7400)
    assert WitnessAddress.parse("file:///a/b%20c").path == "/a/b c"
    s3 = WitnessAddress.parse("s3://b/p/q?endpoint=https://h:1&region=r")
    assert (s3.bucket, s3.prefix, s3.endpoint, s3.region) == ("b", "p/q", "https://h:1", "r")


@pytest.mark.parametrize(
    "text",
    [
        "", "host:7400", "udp://h:1", "tcp://", "tcp://h", "tcp://h:0", "tcp://h:65536", "tcp://h:x", "tcp://:1",
        "tcp://::1:7400", "tcp://h:1/path", "tcp://h:1?x=y", "tcp://u@h:1", "tcp://h:\u0661", "file://relative/path",
        "file:///", "file:////x", "file:///a/../b", "file:///a//b", "file:///a/./b", "file:///a?b", "file:///a%00",
        "file:///a b", "s3://", "s3:///prefix", "s3://key:secret@bucket/p", "s3://b/p?size=1", "s3://b/p#f",
        "s3://b/p?endpoint=ftp://x", "s3://b/p?endpoint=https://u:p@x", "s3://b/p?endpoint", "tcp://h:1\n",
        "file:///" + "a" * 2000,
    ],
)  # fmt: skip
def test_what_is_none(text: str):
    with pytest.raises(ValueError, match="invalid witness address"):
        WitnessAddress.parse(text)


@given(st.text(st.characters(codec="utf-8", exclude_characters="/\x00"), min_size=1, max_size=20))
def test_any_file_name_can_be_written(name: str):
    if name in (".", ".."):
        return
    address = WitnessAddress("file", path=f"/mnt/{name}")
    assert WitnessAddress.parse(address.text()).path == f"/mnt/{name}"


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_a_value_error(text: str):
    for candidate in (text, f"tcp://{text}", f"file:///{text}", f"s3://{text}"):
        try:
            address = WitnessAddress.parse(candidate)
        except ValueError:
            continue
        assert WitnessAddress.parse(address.text()) == address
