"""``python -m ourodb.sim --seed N``: one run, its story and its verdict; the same output each time, to the byte.

What isn't said is drawn from the seed (``profiles``), so that the number alone replays a run of a sweep.
``--seeds 1000..2000`` runs many on all cores, stops at the first that fails, and says how to have that one again;
``--shrink`` makes a failing run smaller. The last line is the verdict; the exit code is 0 when it is ok, 1 when
it isn't, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import replace
from typing import Any, TypeVar

from ourodb.cli.console import console
from ourodb.sim.faults.kinds import FAULTS, kinds_of
from ourodb.sim.network import CLIENTS
from ourodb.sim.ouro import build_node, inspect
from ourodb.sim.profiles import OPTIONS, command, drawn
from ourodb.sim.run import LOCAL_QUORUM, QUORUM, Plan, Verdict, run
from ourodb.sim.shrink import SECONDS_MIN, TRIES_MAX, shrink
from ourodb.sim.sweep import Bar, fresh_seeds, seeds_of, sweep
from ourodb.sim.workloads import WORKLOADS

T = TypeVar("T")
N = TypeVar("N", int, float)

EXIT_INTERRUPTED = 130

NODES_MAX = CLIENTS // 2
"""As many again may come while it runs, and all have places of their own in the network, before those of clients."""

PROBLEMS_MAX = 20
"""Of one run that are told: the first say most, and one mistake can make thousands."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns the exit code."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    said = {field: getattr(chosen, field) for field in OPTIONS if hasattr(chosen, field)}
    workloads = said.pop("workload", tuple(WORKLOADS))
    if hasattr(chosen, "hours"):
        said["seconds"] = chosen.hours * 3600
    try:
        drawn(1, workloads=workloads, **said)
    except ValueError as error:
        parser.error(str(error))
    try:
        if chosen.seeds is not None:
            return _sweep(chosen.seeds, workloads, said, chosen)
        if chosen.soak or chosen.fresh is not None:
            return _sweep(fresh_seeds(None if chosen.soak else chosen.fresh), workloads, said, chosen)
        plan = drawn(chosen.seed, workloads=workloads, **said)
        verdict = judged(replace(plan, story=chosen.story and not chosen.shrink))
        if chosen.shrink and not verdict.is_ok:
            verdict = _shrunk(verdict)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    _print(told(verdict))
    return 0 if verdict.is_ok else 1


def judged(plan: Plan) -> Verdict:
    """Carry a plan out with production nodes."""
    return run(plan, build_node, inspect)


def told(verdict: Verdict) -> list[str]:
    """A verdict, line by line."""
    lines = list(verdict.story)
    for title, counts in (
        ("faults", verdict.struck),
        ("successes", verdict.done),
        ("errors", verdict.errors),
    ):
        shown = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
        lines.append(f"{title}: {shown or 'none'}")
    succeeded, expected = verdict.calm
    lines.append(
        f"expected to succeed: {expected} operations; {succeeded} did, {verdict.success_percent:.2f} %"
    )
    lines += [f"problem: {problem}" for problem in verdict.problems[:PROBLEMS_MAX]]
    if len(verdict.problems) > PROBLEMS_MAX:
        lines.append(f"problem: and {len(verdict.problems) - PROBLEMS_MAX} more")
    return [*lines, f"again: {command(verdict.plan)}", verdict.line()]


def _sweep(
    seeds: Iterable[int], workloads: Sequence[str], said: dict[str, Any], chosen: argparse.Namespace
) -> int:
    plans = (drawn(seed, workloads=workloads, **said) for seed in seeds)
    total = len(seeds) if isinstance(seeds, Sized) else chosen.fresh
    is_fresh = chosen.seeds is None
    with Bar("seeds", total, console(sys.stderr)) as bar:

        def on_verdict(verdict: Verdict) -> None:
            bar.on_verdict(verdict)
            if is_fresh or not verdict.is_ok:
                bar.tell(verdict.line())

        swept = sweep(plans, judged, workers=chosen.workers, goes_on=chosen.keep_going, on_verdict=on_verdict)
    for verdict in swept.failures:
        smallest = _shrunk(verdict) if chosen.shrink else verdict
        _print(told(smallest))
    for title, counts in (("workloads", swept.workloads), ("faults", swept.struck)):
        shown = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
        _print([f"{title}: {shown or 'none'}"])
    if swept.pending_seed is not None and not is_fresh:
        last = f"{seeds[-1]}" if isinstance(seeds, range) else ""
        _print([f"to go on: --seeds {swept.pending_seed}..{last}"])
    _print([swept.line()])
    if swept.is_interrupted and swept.is_ok:
        return EXIT_INTERRUPTED
    return 0 if swept.is_ok else 1


def _shrunk(verdict: Verdict) -> Verdict:
    """The smallest run that fails alike, with its story."""
    with Bar("shrinking", TRIES_MAX, console(sys.stderr)) as bar:
        smallest = shrink(verdict, judged, tries_max=TRIES_MAX, on_try=bar.on_verdict)
    return judged(replace(smallest.plan, story=True))


def _print(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


# --- The command line ------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m ourodb.sim",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    what = parser.add_argument_group("which seeds").add_mutually_exclusive_group()
    what.add_argument("--seed", type=_number(int, 0), default=1, help="one run, with its story")
    what.add_argument(
        "--seeds", type=_saying_why(seeds_of), default=None, help="1000..2000, or 1000.. without end"
    )
    what.add_argument("--fresh", type=_count, default=None, help="so many seeds that nobody had before")
    what.add_argument("--soak", action="store_true", default=False, help="fresh seeds until stopped")

    how = parser.add_argument_group("how")
    how.add_argument("--story", action=argparse.BooleanOptionalAction, default=True, help="of a single seed")
    how.add_argument("--shrink", action="store_true", default=False, help="make what fails smaller")
    how.add_argument("--keep-going", action="store_true", default=False, help="don't stop at a failure")
    how.add_argument("--workers", type=_count, default=None, help="processes of a sweep; one a core")

    plan = parser.add_argument_group("what a run is; what isn't said is drawn from its seed")
    plan.add_argument(
        "--workload", type=_workloads, help=f"all, or one is drawn from a list of: {', '.join(WORKLOADS)}"
    )
    plan.add_argument("--nodes", type=_number(int, 1, most=NODES_MAX))
    plan.add_argument("--dcs", type=_count, dest="data_centers", help="data centres")
    plan.add_argument("--racks", type=_count, help="in each data centre")
    plan.add_argument("--clients", type=_count)
    plan.add_argument(
        "--level", choices=(QUORUM, LOCAL_QUORUM), help="at the second, clients keep to one data centre each"
    )
    time = plan.add_mutually_exclusive_group()
    time.add_argument("--seconds", type=_number(float, SECONDS_MIN), help="of virtual time, with faults")
    time.add_argument(
        "--hours", type=_number(float, SECONDS_MIN / 3600, "half a second"), help="the same in hours"
    )
    plan.add_argument("--quiet-seconds", type=_number(float, 0.0), help="of virtual time after that, healed")
    plan.add_argument(
        "--faults", type=_saying_why(kinds_of), help=f"all, none, or a list of: {', '.join(FAULTS)}"
    )
    plan.add_argument(
        "--strikes", type=_strikes, help="all, none, or a list of the numbers of those that strike"
    )
    plan.add_argument("--gap-ms-max", type=_count, help="between the moments of two strikes")
    plan.add_argument("--heal-after-s", type=_count, help="a node that is down for so long is given up")
    plan.add_argument("--sync-period-ms", type=_period, help="durability periodic; none: group")
    plan.add_argument(
        "--success-percent-min",
        type=_number(int, 0, most=100),
        help="of the operations that could be expected to",
    )
    plan.add_argument("--operations-min", type=_number(int, 0), help="fewer prove nothing")
    return parser


def _saying_why(read: Callable[[str], T]) -> Callable[[str], T]:
    """What argparse takes, with what is wrong in the words of ``read``'s own error."""

    def checked(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return checked


def _number(
    read: Callable[[str], N], least: N, least_told: str = "", *, most: float = math.inf
) -> Callable[[str], N]:
    """What argparse takes for a finite number that is neither less nor more.

    Args:
        least_told: ``least`` in words, where the number says little.
    """

    def checked(text: str) -> N:
        try:
            number = read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"'{text}' is no number that can be used here") from error
        if not least <= number < math.inf:
            raise argparse.ArgumentTypeError(f"{least_told or least} at least, not {text}")
        if number > most:
            raise argparse.ArgumentTypeError(f"{most} at most, not {text}")
        return number

    return checked


_count = _number(int, 1)


def _workloads(text: str) -> tuple[str, ...]:
    names = tuple(WORKLOADS) if text == "all" else tuple(part.strip() for part in text.split(","))
    for name in names:
        if name not in WORKLOADS:
            raise argparse.ArgumentTypeError(
                f"no workload is called '{name}'; there are {', '.join(WORKLOADS)}"
            )
    return names


def _strikes(text: str) -> tuple[int, ...] | None:
    if text in ("all", "none"):
        return None if text == "all" else ()
    return tuple(map(_number(int, 0), text.split(",")))


def _period(text: str) -> int | None:
    return None if text == "none" else _count(text)


if __name__ == "__main__":
    sys.exit(main())
