"""What RocksDB's errors mean for a node.

RocksDB (through its C interface) tells errors as text that begins with the class of the error. Here they become
errors of ours: a stall is OVERLOADED, a disk that is full or broken makes the store read-only, and a wrong checksum
or a missing file is damage, which is told to the operator with what to do about it, and never served.
"""

from __future__ import annotations

import re
from pathlib import Path

from ourodb.errors import OuroError, Overloaded, StoreDamaged, StoreError, StoreReadOnly

ADVICE = (
    "The node won't serve damaged data. Move the data folder aside; then restore a snapshot into an empty one"
    " (ouro restore), or start with an empty one and let the node take its data from its replicas."
)

_STALL = ("Result incomplete", "Operation timed out", "Resource busy")
_DAMAGE = ("Corruption", "Invalid argument", "Not implemented", "NotFound")
_FILE = re.compile(r"(/[^\s:,]+\.(?:sst|log)|MANIFEST-\d+)")


def damaged(path: Path, detail: str) -> StoreDamaged:
    """
    Args:
        path: the store's folder.
        detail: what is wrong, and in which file.
    """
    return StoreDamaged(f"The store in {path} is damaged: {detail}. {ADVICE}")


def missing_file(error: str) -> bool:
    return error.startswith("IO error") and "No such file or directory" in error


def translate(error: Exception, path: Path) -> OuroError:
    """The error of ours that an error of the engine amounts to, while the store is open.

    Args:
        path: the store's folder.
    """
    if isinstance(error, OuroError):
        return error
    text = str(error)
    if text.startswith(_STALL):
        return Overloaded("The storage engine is behind with compaction; try again later")
    if text.startswith(_DAMAGE) or missing_file(text):
        return StoreDamaged(f"damaged data on disk: {text}. Restore this node from a snapshot (ouro restore)")
    if text.startswith("IO error"):
        return StoreReadOnly(f"The disk doesn't take writes, so that the node is read-only: {text}")
    return StoreError(text)


def damaged_file(error: str) -> str:
    """The file that an error names, or an empty string."""
    found = _FILE.search(error)
    return found[1] if found else ""
