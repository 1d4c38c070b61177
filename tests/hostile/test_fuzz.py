"""Frames and statements nearly right: what is wrong with them is the client's error, and each request is answered.

Hypothesis draws batches of mutations, always the same ones; a batch is sent at once over one connection. What fails is
printed as bytes or text that can be sent again.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.goldens import script
from tests.hostile.raw import Raw, bound, envelope

from ourodb.cql.wire.client_messages import encode_prepare, encode_query, encode_register, encode_startup
from ourodb.cql.wire.codes import BATCH, ERROR, EXECUTE, OPTIONS, PREPARE, QUERY, REGISTER, STARTUP
from ourodb.cql.wire.primitives import pack_int, pack_short
from ourodb.cql.wire.segments import encode_segments

BATCH_CASES = 100
BATCHES = 110
CASES_MIN = 10_000
"""Of each test; four tests."""
SCRIPTS = sorted((Path(__file__).parents[1] / "goldens").glob("*.cql"))
STATEMENTS = [statement.text for path in SCRIPTS for statement in script.parse(path.read_text())]
TOKEN = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|\w+|\s+|.", re.DOTALL)
TOKENS = sorted({token for text in STATEMENTS for token in TOKEN.findall(text) if not token.isspace()})
ODD = [
    "",
    "''",
    "null",
    "?",
    "-1",
    "1e999",
    "9" * 40,
    "0x",
    "{}",
    "[]",
    "()",
    "\x00",
    "\ufffd",
    ";",
    "$$",
    "--",
    "/*",
]
INTERESTING = [pack_int(n) for n in (-1, -2, 0, 2**31 - 1, -(2**31), 65_536)] + [
    b"\xff\xff",
    b"\x00",
    b"\x7f\xff",
]
FIXED = settings(
    max_examples=BATCHES,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
SEEDS = st.lists(st.integers(0, 2**62), min_size=BATCH_CASES, max_size=BATCH_CASES)


def seeds_of_frames(version: int) -> list[tuple[int, bytes]]:
    select = encode_query(version, "SELECT * FROM hostile.t WHERE k = ?", bound([bytes(4)]))
    one = (
        pack_int(39)[:0]
        + b"\x00"
        + pack_int(40)
        + b"INSERT INTO hostile.t (k, v) VALUES (1, ?)"[:40]
        + pack_short(0)
    )
    return [
        (QUERY, select),
        (PREPARE, encode_prepare(version, "SELECT * FROM hostile.t WHERE k = ?")),
        (EXECUTE, b"\x00\x10" + bytes(16) + b"\x00\x10" + bytes(16) + pack_short(1) + pack_int(0)),
        (BATCH, b"\x01" + pack_short(1) + one + pack_short(1) + pack_int(0)),
        (REGISTER, encode_register(["SCHEMA_CHANGE"])),
        (STARTUP, encode_startup({})),
        (OPTIONS, b""),
    ]


def mutated_bytes(draw: random.Random, data: bytes) -> bytes:
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


def mutated_statement(draw: random.Random) -> str:
    tokens = TOKEN.findall(draw.choice(STATEMENTS))
    for _ in range(draw.randrange(1, 4)):
        at = draw.randrange(len(tokens) + 1)
        kind = draw.randrange(5)
        if kind == 0:
            del tokens[at : at + 1]
        elif kind == 1:
            tokens.insert(at, " " + draw.choice(TOKENS) + " ")
        elif kind == 2:
            tokens[at : at + 1] = [draw.choice(ODD)]
        elif kind == 3:
            tokens[at : at + 1] = [draw.choice(TOKENS)]
        else:
            tokens[at:at] = tokens[at : at + draw.randrange(1, 6)]
    return "".join(tokens)


def check_answers(client: Raw, sent: dict[int, object]) -> None:
    """Each request is answered once, and none with an error of the node's own."""
    waiting = dict(sent)
    while waiting:
        stream, opcode, flags, body, _ = client.next()
        if stream < 0:
            continue
        case = waiting.pop(stream)
        if opcode == ERROR and not flags and body[:4] == bytes(4):
            pytest.fail(f"an error of the node's own: {body[4:]!r}\nfor {case!r}", pytrace=False)


@pytest.mark.parametrize("version", [3, 4, 5])
def test_frames(address: tuple[str, int], version: int) -> None:
    seeds = seeds_of_frames(version)

    cases = 0

    @FIXED
    @given(SEEDS)
    def batch(drawn: list[int]) -> None:
        nonlocal cases
        cases += len(drawn)
        envelopes, sent = [], {}
        for stream, seed in enumerate(drawn):
            draw = random.Random(seed)
            opcode, body = draw.choice(seeds)
            opcode = draw.choice([opcode] * 9 + [draw.randrange(256)])
            flags = draw.choice([0] * 9 + [draw.randrange(256)])
            sent[stream] = (version, opcode, flags, body := mutated_bytes(draw, body))
            envelopes.append(envelope(version, opcode, body, stream, flags))
        with Raw(address, version) as client:
            client.socket.sendall(encode_segments(envelopes, False) if version == 5 else b"".join(envelopes))
            check_answers(client, dict(sent))

    batch()
    assert cases >= CASES_MIN


def test_statements(address: tuple[str, int]) -> None:
    options = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    with Raw(address) as client:
        client.query(f"CREATE KEYSPACE fuzz WITH replication = {options}")
        client.query("USE fuzz")
        for text in STATEMENTS:
            client.query(text)

    cases = 0

    @FIXED
    @given(SEEDS)
    def batch(drawn: list[int]) -> None:
        nonlocal cases
        cases += len(drawn)
        sent: dict[int, object] = {}
        with Raw(address) as client:
            for stream, seed in enumerate(drawn):
                draw = random.Random(seed)
                text = mutated_statement(draw)
                values = [draw.randbytes(draw.choice((0, 1, 4, 8, 16))) for _ in range(text.count("?"))]
                sent[stream] = (text, values)
                body = encode_query(5, text, bound(values, keyspace="fuzz"))
                client.wire.send(stream, QUERY, body)
            client.flush()
            check_answers(client, sent)

    batch()
    assert cases >= CASES_MIN
