"""``python -m ourodb.sim --seed N``: one run and its verdict; the same output each time, to the byte.

With ``--story`` what happened is told first, line by line. The last line is the verdict; the exit code is 0
when it is ok, 1 when it isn't.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ourodb.sim.faults import FAULTS, kinds_of
from ourodb.sim.ouro import build_node, inspect
from ourodb.sim.run import Plan, Verdict, run
from ourodb.sim.workloads import WORKLOADS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns the exit code."""
    parser = argparse.ArgumentParser("python -m ourodb.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--dcs", type=int, default=1, help="data centres that the nodes are spread over")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--workload", choices=sorted(WORKLOADS), default="register")
    parser.add_argument("--seconds", type=float, default=60, help="of virtual time, with faults")
    parser.add_argument("--quiet-seconds", type=float, default=15, help="of virtual time after that, healed")
    parser.add_argument(
        "--faults", type=kinds_of, default="all", help=f"all, none, or a list of: {', '.join(FAULTS)}"
    )
    parser.add_argument("--story", action="store_true", help="tell what happened")
    chosen = parser.parse_args(arguments)
    plan = Plan(
        seed=chosen.seed,
        workload=chosen.workload,
        nodes=chosen.nodes,
        data_centers=chosen.dcs,
        clients=chosen.clients,
        seconds=chosen.seconds,
        quiet_seconds=chosen.quiet_seconds,
        faults=chosen.faults,
        story=chosen.story,
    )
    verdict = run(plan, build_node, inspect)
    sys.stdout.write("\n".join(told(verdict)) + "\n")
    return 0 if verdict.is_ok else 1


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
    succeeded, counted = verdict.calm
    lines.append(
        f"in calm: {succeeded} of {counted} operations succeeded, {100 * succeeded / max(counted, 1):.2f} %"
    )
    lines += [f"problem: {problem}" for problem in verdict.problems]
    lines.append(verdict.line())
    return lines


if __name__ == "__main__":
    sys.exit(main())
