"""TLS contexts out of files, for connections this node dials.

Rule: the only place that reads certificates and keys. What is wrong with a file is said with its name and what to do.
It must not know who is dialled.
"""

from __future__ import annotations

import ssl


def client_context(ca_file: str, cert_file: str, key_file: str) -> ssl.SSLContext:
    """Trusts the authorities in ``ca_file``, the system's where it is empty; shows a certificate where there is one.

    Files are PEM; the key may be in ``cert_file``. Blocks. Raises ValueError.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"{ca_file}: {_why(error)}; name a file with the authorities' certificates in PEM") from error
    if cert_file:
        try:
            context.load_cert_chain(cert_file, key_file or None, password=_no_password)
        except (OSError, ssl.SSLError) as error:
            files = f"{cert_file} and {key_file}" if key_file else cert_file
            raise ValueError(
                f"{files}: {_why(error)}; name a certificate and its key in PEM, without a password"
            ) from error
    return context


def _no_password() -> str:
    # Otherwise the library asks on the terminal.
    raise ssl.SSLError("the key has a password")


def _why(error: OSError) -> str:
    return str(error.strerror or error)
