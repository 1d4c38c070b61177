"""A process of the load generator: takes phases from the parent's pipe, gives back what it counted.

Through the pipe go, from the parent: ``Phase``s, each after the end of the one before, and None to leave (in the
midst of a phase it ends that first). From the process: ``Ready`` once it is connected and after each phase, an
``Interval`` for each second, or ``Failed``.
"""

from __future__ import annotations

import os
import signal
import time
from multiprocessing.connection import Connection
from typing import NamedTuple

from ourodb.bench.generator import Generator, Phase
from ourodb.bench.options import BenchError, Options
from ourodb.bench.workload import statements_of
from ourodb.errors import RequestError

PRELOAD = "preload"
WARM_UP = "warm-up"
MEASURE = "measure"


class Ready(NamedTuple):
    """Connected, or done with a phase.

    Attributes:
        phase: "" after connecting.
        ended_ns: when its last answer came, by the generator's clock.
        cpu_s: processor time that the phase took.
        failure: why the phase ended early, or "".
    """

    phase: str
    ended_ns: int
    cpu_s: float
    failure: str


class Failed(NamedTuple):
    """The process can't go on and has left."""

    reason: str


def work(options: Options, process: int, pipe: Connection) -> None:
    """The whole life of a process."""
    # Ctrl-C reaches all processes of the terminal; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _serve(options, process, pipe)
    except (BenchError, RequestError) as error:
        pipe.send(Failed(str(error)))
    except (EOFError, BrokenPipeError):
        os._exit(1)  # the parent is gone


def _serve(options: Options, process: int, pipe: Connection) -> None:
    generator = Generator(options, process, statements_of(options), pipe.send, pipe.fileno())
    workload = generator.workload
    pipe.send(Ready("", time.monotonic_ns(), 0.0, ""))
    while not generator.stopped:
        phase = pipe.recv()
        if phase is None:
            break
        assert isinstance(phase, Phase)
        used = time.process_time()
        generator.run(phase, workload.preload() if phase.name == PRELOAD else workload)
        ended = time.monotonic_ns()
        pipe.send(Ready(phase.name, ended, time.process_time() - used, generator.failure))
    generator.close()
