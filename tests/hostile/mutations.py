"""How requests are bent: bits and bytes drawn by hypothesis, always the same ones."""

from __future__ import annotations

import random

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from tests.hostile.raw import Raw, bound

from ourodb.cql.wire.client_messages import (
    Prepared,
    encode_batch,
    encode_execute,
    encode_prepare,
    encode_query,
    encode_register,
    encode_startup,
)
from ourodb.cql.wire.codes import BATCH, BATCH_UNLOGGED, EXECUTE, OPTIONS, PREPARE, QUERY, REGISTER, STARTUP
from ourodb.cql.wire.primitives import pack_int
from ourodb.cql.wire.requests import Batch, BatchStatement

BATCH_CASES = 100
INTERESTING = [pack_int(n) for n in (-1, -2, 0, 2**31 - 1, -(2**31), 65_536)] + [
    b"\xff\xff",
    b"\x00",
    b"\x7f\xff",
]
SEEDS = st.integers(0, 2**62)
"""Each of a batch."""


def always_the_same(batches: int) -> settings:
    """So many batches, without shrinking: a case is printed as it was sent."""
    return settings(
        max_examples=batches,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def cases_of(seed: int) -> list[int]:
    """A seed for each case of a batch."""
    draw = random.Random(seed)
    return [draw.getrandbits(62) for _ in range(BATCH_CASES)]


def requests(client: Raw) -> list[tuple[int, bytes]]:
    """Some that are right: opcodes and bodies, for this client's version."""
    version = client.version
    select = "SELECT * FROM hostile.t WHERE k = ?"
    insert = "INSERT INTO hostile.t (k, v, f) VALUES (?, ?, ?)"
    row = [bytes(4), b"text", pack_int(1) + pack_int(4) + bytes(4)]
    bodies = [
        (QUERY, encode_query(version, select, bound([bytes(4)]))),
        (QUERY, encode_query(version, insert, bound(row))),
        (PREPARE, encode_prepare(version, select)),
        (REGISTER, encode_register(["SCHEMA_CHANGE"])),
        (STARTUP, encode_startup({})),
        (OPTIONS, b""),
    ]
    statements = [BatchStatement(insert, None, row)]
    for statement, values in ((select, [bytes(4)]), (insert, row)):
        prepared = client.prepare(statement)
        assert isinstance(prepared, Prepared)
        execute = encode_execute(
            version, prepared.statement_id, prepared.result_metadata_id or b"", bound(values)
        )
        bodies.append((EXECUTE, execute))
    statements.append(BatchStatement(None, prepared.statement_id, row))
    bodies.append((BATCH, encode_batch(version, Batch(BATCH_UNLOGGED, statements, bound()))))
    return bodies


def mutated_bytes(draw: random.Random, data: bytes) -> bytes:
    """One to three bits flipped, bytes put in, taken out or replaced, or the rest cut off."""
    result = bytearray(data)
    for _ in range(draw.randrange(1, 4)):
        at = draw.randrange(len(result) + 1)
        kind = draw.randrange(5)
        if kind == 0 and at < len(result):
            result[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del result[at : at + draw.randrange(1, 9)]
        elif kind == 2:
            result[at:at] = draw.randbytes(draw.randrange(1, 9))
        elif kind == 3:
            odd = draw.choice(INTERESTING)
            result[at : at + len(odd)] = odd
        else:
            del result[at:]
    return bytes(result)
