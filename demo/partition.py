"""Instagram against payments: the same ring, cut in two.

A feed wants to go on whatever happens, and reads and writes at ONE; an account must never be wrong, and changes by a
conditional write (Paxos, a majority of the copies) at QUORUM. Nothing but the consistency level differs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from cassandra import ConsistencyLevel
from cassandra.cluster import Session
from cassandra.query import SimpleStatement
from console import console, heading, wait_until
from rich.markup import escape

from ring import DemoRing

LARGER, SMALLER = (1, 2), (3,)
POSTS = 20
CENTS = 10_000
PRICE = 2_500

TABLES = (
    "DROP KEYSPACE IF EXISTS pictures",
    "DROP KEYSPACE IF EXISTS bank",
    "CREATE KEYSPACE pictures WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}",
    "CREATE KEYSPACE bank WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}",
    "CREATE TABLE pictures.feed (owner text, at timeuuid, caption text, PRIMARY KEY (owner, at))",
    "CREATE TABLE bank.accounts (owner text PRIMARY KEY, cents int)",
)


def act(ring: DemoRing) -> None:
    """The whole act."""
    heading("Instagram against payments")
    cluster = ring.connect()
    try:
        session = cluster.connect()
        for statement in TABLES:
            session.execute(statement)
        session.execute("INSERT INTO bank.accounts (owner, cents) VALUES ('ada', %s)", (CENTS,))
    finally:
        cluster.shutdown()
    clusters = [ring.connect(*side, consistency=ConsistencyLevel.ONE) for side in (LARGER, SMALLER)]
    try:
        larger, smaller = (one.connect() for one in clusters)
        ring.split(LARGER, SMALLER)
        try:
            seconds = wait_until("each side sees that the other is gone", lambda: _is_known(ring))
            console.print(
                f"The network is cut between {ring.named(*LARGER)} on one side and {ring.named(*SMALLER)} on the other;"
                f" both sides know it after {seconds:.1f} s."
            )
            _feed(ring, larger, smaller)
            _account(ring, larger, smaller)
        finally:
            ring.heal()
        _whole_again(ring, larger, smaller)
    finally:
        for one in clusters:
            one.shutdown()


def _is_known(ring: DemoRing) -> bool:
    pairs = [(one, other) for one in LARGER for other in SMALLER]
    return not any(ring.sees(one, other) or ring.sees(other, one) for one, other in pairs)


def _feed(ring: DemoRing, larger: Session, smaller: Session) -> None:
    """Both sides post, and both read what they have."""
    console.print("\n[bold]The feed[/], at ONE: any copy will do.")
    post = "INSERT INTO pictures.feed (owner, at, caption) VALUES ('ada', now(), %s)"
    for side, session in ((LARGER, larger), (SMALLER, smaller)):
        for number in range(POSTS):
            session.execute(post, (f"picture {number} from {ring.named(*side)}",))
        seen = _pictures(session)
        console.print(f"   {_named(ring, side)} posted {POSTS} pictures, and see {seen}")


def _account(ring: DemoRing, larger: Session, smaller: Session) -> None:
    """The same purchase on each side: a majority is on one only."""
    buy = f"UPDATE bank.accounts SET cents = {CENTS - PRICE} WHERE owner = 'ada' IF cents = {CENTS}"
    console.print("\n[bold]The account[/], by a conditional write: a majority of the copies has to agree.")
    console.print(f"   [cyan]{buy}[/]")
    statement = SimpleStatement(buy, consistency_level=ConsistencyLevel.QUORUM)
    bought = larger.execute(statement).one()
    if not bought.applied:
        raise RuntimeError("the larger side couldn't decide")
    console.print(f"   {_named(ring, LARGER)} [green]applied[/]: {CENTS - PRICE:,} cents left")
    try:
        smaller.execute(statement)
    except Exception as error:  # the driver wraps what the server says in several ways
        console.print(f"   {_named(ring, SMALLER)} [yellow]refused[/]: {escape(_reason(error))}")
    else:
        raise RuntimeError("the smaller side decided alone")


def _whole_again(ring: DemoRing, larger: Session, smaller: Session) -> None:
    def is_whole() -> bool:
        seen = all(ring.sees(one, other) for one in ring.numbers for other in ring.numbers)
        return seen and not any(ring.hints_for(number) for number in ring.numbers)

    seconds = wait_until("the ring is whole again", is_whole)
    console.print(f"\nThe network is whole again; {seconds:.1f} s later no hints wait any more.")
    for side, session in ((LARGER, larger), (SMALLER, smaller)):
        cents = session.execute("SELECT cents FROM bank.accounts WHERE owner = 'ada'").one().cents
        seen = _pictures(session)
        console.print(f"   {_named(ring, side)} see {seen} pictures, and {cents:,} cents on the account")
        if seen != 2 * POSTS or cents != CENTS - PRICE:
            raise RuntimeError("the two sides haven't come together")
    console.print(
        "\nAt ONE both sides go on, and come together afterwards; a majority is on one side only, so the other refuses"
        " rather than sell the same money twice."
    )


def _pictures(session: Session) -> int:
    return len(session.execute("SELECT at FROM pictures.feed WHERE owner = 'ada'").all())


def _reason(error: Any) -> str:
    """What the server said, without what the driver adds."""
    causes = list(getattr(error, "errors", {}).values()) or [error]
    text = str(causes[0])
    said = re.search(r'message="(.*?)"', text)
    return said[1] if said else text


def _named(ring: DemoRing, side: Sequence[int]) -> str:
    """As wide for one side as for the other."""
    return ring.named(*side).ljust(len(ring.named(*LARGER)))
