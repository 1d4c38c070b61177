"""How well a cluster answered while faults struck it.

Consistency is easy for a cluster that answers nobody. What these tell is no violation by itself: how much has
to succeed depends on what was done to the cluster, and is for the caller to say.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from ourodb.sim.history import Operation, Outcome

SECOND_NS = 1_000_000_000


def undisturbed(
    history: Iterable[Operation], disturbances_ns: Sequence[int], grace_ns: int, flight_ns: int = 0
) -> Iterator[Operation]:
    """Operations that were invoked while nothing had just changed, nor changed while they were under way.

    Args:
        disturbances_ns: moments at which something broke or healed, ascending.
        grace_ns: after each of them operations that are invoked don't count for so long.
        flight_ns: before each of them, likewise, whether they succeeded or not.
    """
    for operation in history:
        index = bisect_right(disturbances_ns, operation.invoked_ns)
        if index and operation.invoked_ns - disturbances_ns[index - 1] < grace_ns:
            continue
        if index < len(disturbances_ns) and disturbances_ns[index] - operation.invoked_ns < flight_ns:
            continue
        yield operation


def success_share(
    history: Iterable[Operation], disturbances_ns: Sequence[int], grace_ns: int, flight_ns: int = 0
) -> tuple[int, int]:
    """Of those that are ``undisturbed``: (how many succeeded, how many there were)."""
    outcomes = [one.outcome for one in undisturbed(history, disturbances_ns, grace_ns, flight_ns)]
    return outcomes.count(Outcome.DONE), len(outcomes)


def silent_seconds(history: Iterable[Operation], start_ns: int, end_ns: int) -> list[int]:
    """Seconds, counted from ``start_ns``, in which no operation succeeded."""
    seconds = (end_ns - start_ns) // SECOND_NS
    heard = [False] * seconds
    for operation in history:
        second = (operation.completed_ns - start_ns) // SECOND_NS
        if operation.outcome is Outcome.DONE and 0 <= second < seconds:
            heard[second] = True
    return [second for second in range(seconds) if not heard[second]]
