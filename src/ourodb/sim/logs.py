"""What nodes log, while they are simulated: lines of the story, and bugs to be told.

Nodes log through structlog, which is the whole process's. ``captured`` takes it over for the time of a run and
gives it back afterwards. A log line with an exception is a bug of ours that a node survived: the run must not
pass.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog

from ourodb.sim.world import World

_IGNORED = ("event", "exc_info", "level")


@contextmanager
def captured(world: World) -> Iterator[list[str]]:
    """Take over what is logged in this block; gives the list of the bugs that are logged."""
    bugs: list[str] = []

    def take(logger: object, method: str, event: MutableMapping[str, Any]) -> Any:
        who = world.running.machine.name if world.running is not None else "world"
        fields = " ".join(f"{name}={value}" for name, value in event.items() if name not in _IGNORED)
        world.tell(who, f"{method}: {event.get('event')} {fields}".rstrip())
        if event.get("exc_info"):
            shown = structlog.processors.format_exc_info(logger, method, event)
            bugs.append(f"{who} has a bug: {event.get('event')} {fields}\n{shown.get('exception', '')}")
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[take],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    try:
        yield bugs
    finally:
        structlog.configure(**before)
