"""Object stores over the network: ports.ObjectStore on the obstore library.

Rule: the only place that knows the library, which comes with the optional extra ``s3`` and is imported when the first
store is opened. Whatever it raises becomes an OSError with one line. Credentials come from where the library looks for
them (the AWS_* variables, a web identity, the instance's role), never from an address. It must not know what the
bytes mean.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Client

REQUEST_TIMEOUT_S: Final = 5
# In all, with repeats: longer than a raft election should wait for anything.
_RETRY_TIMEOUT_S: Final = 10
_RETRIES: Final = 3
_TEXT_MAX: Final = 300

T = TypeVar("T")


def open_object_store(bucket: str, endpoint: str, region: str) -> RealObjectStore:
    """A client of an S3-compatible store; see ports.OpenObjectStore. An ``http`` endpoint is taken at its word."""
    try:
        from obstore.store import S3Store  # an optional extra
    except ImportError as e:
        text = f"s3 addresses need the extra 's3': pip install 'durakv[s3]' ({e})"
        raise OSError(errno.ENOPKG, text) from e
    config: Any = {}
    if endpoint:
        # This one takes precedence over the environment's.
        config["aws_endpoint_url_s3"] = endpoint
    if region:
        config["region"] = region
    client = _explained(
        lambda: S3Store(
            bucket,
            config=config,
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "timeout": timedelta(seconds=REQUEST_TIMEOUT_S),
                "connect_timeout": timedelta(seconds=REQUEST_TIMEOUT_S),
            },
            retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_TIMEOUT_S)},
        )
    )
    return RealObjectStore(client, f"s3://{bucket}")


class RealObjectStore:
    """Implements ports.ObjectStore on any obstore store that has conditional writes."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name = name

    def get(self, key: str) -> tuple[bytes, str] | None:
        """See ObjectStore."""
        import obstore

        def read() -> tuple[bytes, str]:
            found = obstore.get(self._client, key)
            return bytes(found.bytes()), found.meta["e_tag"] or ""

        try:
            return _explained(read, f"{self._name}/{key}")
        except FileNotFoundError:
            return None

    def put_new(self, key: str, body: bytes) -> bool:
        """See ObjectStore."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        def write() -> bool:
            try:
                obstore.put(self._client, key, body, mode="create", use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                return False
            return True

        return _explained(write, f"{self._name}/{key}")

    def put_if(self, key: str, body: bytes, tag: str) -> bool:
        """See ObjectStore."""
        import obstore
        from obstore.exceptions import PreconditionError

        def write() -> bool:
            try:
                obstore.put(self._client, key, body, mode={"e_tag": tag}, use_multipart=False)
            except (PreconditionError, FileNotFoundError):
                return False
            return True

        return _explained(write, f"{self._name}/{key}")


def _explained(call: Callable[[], T], where: str = "") -> T:
    """The call's value; whatever the library raises becomes an OSError."""
    try:
        return call()
    except OSError:
        raise
    except Exception as e:
        line = " ".join(str(e).partition("\n\n")[0].split())[:_TEXT_MAX]
        raise OSError(errno.EIO, f"{where}: {line}" if where else line) from e
