"""Column specifications and the metadata of results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class ColumnSpec(NamedTuple):
    """One column of a result, or one bind marker.

    Attributes:
        type_option: the [option] of its type as v5 has it; older versions get theirs by ``type_option_for``.
    """

    keyspace: str
    table: str
    name: str
    type_option: bytes


class RowsMetadata:
    """The metadata of a result for one protocol version, encoded once.

    Attributes:
        columns: what it describes.
        id: 16 bytes that change when the columns do (v5's result metadata id).
    """

    __slots__ = ("columns", "id")

    def __init__(self, columns: Sequence[ColumnSpec], version: int) -> None:
        raise NotImplementedError

    def rows(self, row_count: int, rows: Sequence[bytes], skip_metadata: bool = False) -> bytes:
        """Body of a RESULT Rows, last page. ``rows``: encoded rows (each cell a [bytes]), in any grouping."""
        raise NotImplementedError

    def rows_page(
        self,
        row_count: int,
        rows: Sequence[bytes],
        *,
        skip_metadata: bool = False,
        paging_state: bytes | None = None,
        changed: bool = False,
    ) -> bytes:
        """As ``rows``, with a paging state when there are more pages.

        ``changed`` (v5): the client's metadata id was another one, so it gets the new id and the full metadata,
        whatever ``skip_metadata`` says.
        """
        raise NotImplementedError


def result_metadata_id(columns: Sequence[ColumnSpec]) -> bytes:
    """16 bytes that are the same on every node and change when the columns change."""
    raise NotImplementedError


def type_option_for(version: int, type_option: bytes) -> bytes:
    """The [option] as ``version`` knows it: types that came later become custom types, at any depth."""
    raise NotImplementedError
