"""The end of a pass of the loop. A failure here means that something is acknowledged before the store has it, or that
what was sent stays in a queue."""

from __future__ import annotations

import asyncio

from tests.net.ring import run

from ourodb.net.loop import Passes


def test_settles_once_and_then_flushes_in_order() -> None:
    async def test() -> None:
        said: list[str] = []
        passes = Passes(asyncio.get_running_loop())
        passes.settle = lambda: said.append("settle")
        passes.add_flusher(lambda: said.append("first"))
        passes.add_flusher(lambda: said.append("second"))
        await asyncio.sleep(0)
        assert said == []
        passes.arm()
        passes.arm()
        assert said == []
        await asyncio.sleep(0)
        assert said == ["settle", "first", "second"]
        await asyncio.sleep(0)
        assert said == ["settle", "first", "second"]

    run(test)


def test_what_a_flusher_arms_is_another_pass() -> None:
    """Else what a flush leads to, a callback that sends, would never leave."""

    async def test() -> None:
        passes = Passes(asyncio.get_running_loop())
        settled: list[int] = []
        passes.settle = lambda: settled.append(1)
        passes.add_flusher(lambda: passes.arm() if len(settled) < 3 else None)
        passes.arm()
        for _ in range(6):
            await asyncio.sleep(0)
        assert len(settled) == 3

    run(test)


def test_a_failure_to_settle_keeps_everything_back() -> None:
    """Nothing may be acknowledged that may be lost; what waits is flushed once a later pass has settled."""

    async def test() -> None:
        loop = asyncio.get_running_loop()
        problems: list[object] = []
        loop.set_exception_handler(lambda loop, context: problems.append(context["exception"]))
        passes = Passes(loop)
        flushed: list[int] = []
        passes.add_flusher(lambda: flushed.append(1))

        def fail() -> None:
            raise ValueError("no room")

        passes.settle = fail
        passes.arm()
        await asyncio.sleep(0)
        assert [type(problem) for problem in problems] == [ValueError]
        assert flushed == []
        passes.settle = lambda: None
        passes.arm()
        await asyncio.sleep(0)
        assert flushed == [1]

    run(test)
