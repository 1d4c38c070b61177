"""The file with a cluster's secret."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from ourodb.errors import ConfigurationProblem

SECRET_BYTES: Final = 32


def read_secret(path: Path) -> bytes:
    """The secret in a file.

    Raises:
        ConfigurationProblem: it can't be read, or there is none in it: with an empty one anybody could join.
    """
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise ConfigurationProblem(f"can't read the secret {path}: {error.strerror}") from error
    if not secret:
        raise ConfigurationProblem(f"the secret {path} is empty")
    return secret


def make_secret(path: Path) -> bytes:
    """A new secret, in a file that only its owner may read; it is there whole, or not at all.

    Whoever calls this holds the folder: nobody else makes one there meanwhile.

    Raises:
        FileExistsError: there is one.
        OSError: it can't be written.
    """
    if path.exists():
        raise FileExistsError(path)
    made = secrets.token_hex(SECRET_BYTES).encode()
    new = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(made + b"\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink()
        raise
    return made
