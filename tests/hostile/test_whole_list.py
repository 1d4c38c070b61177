"""What must hold through all that the other modules of this folder do. Runs last: pytest takes files in order."""

from __future__ import annotations

import random
import threading
import traceback
from collections.abc import Callable

from tests.hostile import test_frames, test_requests
from tests.hostile.conftest import Memory, Neighbour
from tests.hostile.idle import IdleClients
from tests.hostile.slow_clients import SlowClients

from ourodb import limits

MEMORY_MIB_MAX = 300
ATTACKERS = 4
PREPARED_EACH = limits.PREPARED_STATEMENTS_MAX // 5
"""So many that none is forgotten that another attacker still needs."""

Address = tuple[str, int]
Attack = Callable[[Address], object]


def attacks(attacker: int) -> list[Attack]:
    """The list, each as one client does it; those that take long run beside them (``SlowClients``, ``IdleClients``)."""
    found: list[Attack] = []
    for version in (3, 4, 5):
        found += [
            lambda address, v=version: test_frames.test_unknown_opcode(address, v, 0x7F),
            lambda address, v=version: test_frames.test_truncated_frames(address, v),
            lambda address, v=version: test_frames.test_truncated_bodies(address, v),
            lambda address, v=version: test_frames.test_oversized_frame(address, v),
            lambda address, v=version: test_frames.test_query_before_startup(address, v),
            lambda address, v=version: test_frames.test_startup_twice(address, v),
        ]
    for compression in ("", "lz4"):
        found += [
            lambda address, c=compression: test_frames.test_bad_checksum(address, "header", c),
            lambda address, c=compression: test_frames.test_bad_checksum(address, "payload", c),
        ]
    for length in (-1, -(2**31)):
        found += [
            lambda address, n=length: test_frames.test_length_below_zero(address, 4, n, False),
            lambda address, n=length: test_frames.test_length_below_zero(address, 4, n, True),
            lambda address, n=length: test_frames.test_length_below_zero_in_a_segment(address, n),
        ]
    for claimed in (2**31 - 1, 1 << 20):
        found += [
            lambda address, n=claimed: test_frames.test_lz4_bomb(address, n),
            lambda address, n=claimed: test_frames.test_snappy_bomb(address, n),
        ]
    found += [
        lambda address: test_frames.test_length_of_two_gib(address, 4),
        test_frames.test_length_of_two_gib_in_segments,
        test_frames.test_segment_bomb,
        lambda address: test_frames.test_startup_with_many_keys(address, 65_535),
        test_frames.test_startup_with_a_hundred_thousand_keys,
        test_frames.test_plain_http,
        test_requests.test_text_that_is_not_utf8,
        test_requests.test_bind_values,
        test_requests.test_statement_of_ten_mib,
        lambda address: test_requests.prepare_distinct(address, PREPARED_EACH, f"k{attacker}"),
    ]
    found += [
        lambda address, n=name: test_requests.test_nesting_of_a_thousand(address, n)
        for name in test_requests.NESTED
    ]
    found += [
        lambda address, n=name: test_requests.test_value_of_the_wrong_length(address, n)
        for name in test_requests.FIXED_BYTES
    ]
    return found


def test_all_at_once(address: Address, neighbour: Neighbour) -> None:
    """Four at a time, each with the whole list in an order of its own, beside idle, slow and deaf clients."""
    wrong: list[str] = []

    def attack(number: int) -> None:
        draw = random.Random(number)
        mine = attacks(number)
        draw.shuffle(mine)
        for one in mine:
            try:
                one(address)
            except BaseException:
                wrong.append(traceback.format_exc())

    slow = SlowClients(address)
    idle = IdleClients(address)
    try:
        threads = [threading.Thread(target=attack, args=(number,)) for number in range(ATTACKERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong, "\n".join(wrong)
        idle.check()
    finally:
        idle.close()
        slow.stop()


def test_nobody_else_suffered(neighbour: Neighbour) -> None:
    report = neighbour.report()
    print(report)
    assert report["failed"] == 0, report
    assert report["requests"] > 0


def test_memory_stayed_bounded(memory: Memory) -> None:
    print(f"the node took {memory.mib_max} MiB at most")
    assert memory.mib_max < MEMORY_MIB_MAX
