"""Frames and statements nearly right: what is wrong with them is the client's error, and each request is answered.

Hypothesis draws batches of mutations, always the same ones; a batch is sent at once over one connection. What fails is
printed as bytes or text that can be sent again.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from tests.goldens import script
from tests.hostile.mutations import BATCH_CASES, SEEDS, always_the_same, cases_of, mutated_bytes, requests
from tests.hostile.raw import Raw, bound, envelope

from ourodb.cql.wire.client_messages import encode_query
from ourodb.cql.wire.codes import ERROR, QUERY
from ourodb.cql.wire.segments import encode_segments
from ourodb.errors import InvalidRequest

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
    with Raw(address, version) as client:
        seeds = requests(client)
        assert not any(isinstance(client.ask(*seed), InvalidRequest) for seed in seeds)

    cases = 0

    @always_the_same(BATCHES)
    @given(SEEDS)
    def batch(seed_of_batch: int) -> None:
        nonlocal cases
        cases += BATCH_CASES
        envelopes, sent = [], {}
        for stream, seed in enumerate(cases_of(seed_of_batch)):
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

    @always_the_same(BATCHES)
    @given(SEEDS)
    def batch(seed_of_batch: int) -> None:
        nonlocal cases
        cases += BATCH_CASES
        sent: dict[int, object] = {}
        with Raw(address) as client:
            for stream, seed in enumerate(cases_of(seed_of_batch)):
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
