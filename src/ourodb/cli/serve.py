"""``ouro serve``: one node in the foreground, or several with ``--cores``.

The options are those of ``Config``, read with the standard library's parser, which costs a serving node
neither time nor memory. Exit codes: 0 after SIGTERM or SIGINT, 2 when the node can't start as it was asked to, 3 when
its cluster has gone on without it, 1 when it stopped by itself.
"""

from __future__ import annotations

import argparse
import os
import sys
from argparse import SUPPRESS
from collections.abc import Sequence
from typing import Final

from ourodb.cli.local.layout import LayoutError, is_there
from ourodb.config import OPTIONS, Config, load
from ourodb.errors import ConfigurationProblem, NodeRemoved, StoreError

CANT_START: Final = 2
WAS_REMOVED: Final = 3


def parser(kind: type[argparse.ArgumentParser] = argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The parser of ``ouro serve``."""
    result = kind(
        prog="ouro serve",
        description="Start a node and run it in the foreground.",
        epilog="Every option may also be an environment variable (--cql-port: OURO_CQL_PORT) or stand in the file.",
    )
    result.add_argument("--config", metavar="FILE", help="TOML file with any of these options.")
    for name, option in OPTIONS.items():
        default = option.default
        result.add_argument(
            f"--{name.replace('_', '-')}",
            metavar="|".join(option.metadata["choices"]) or ("N" if option.type == "int" else "TEXT"),
            help=SUPPRESS
            if option.metadata["hidden"]
            else f"{option.metadata['help']} (default: {default})".replace("%", "%%"),
        )
    return result


def serve(arguments: Sequence[str]) -> int:
    """Run a node until it is told to stop; returns the exit code."""
    parsed = vars(parser().parse_args(arguments))
    file = parsed.pop("config")
    try:
        config = load(parsed, os.environ, file)
        if config.cores > 1:
            from ourodb.cli.cores import run as run_cores

            return run_cores(config, parsed, file)
        _check_folder(config)
        from ourodb.daemon import run

        return run(config)
    except (ConfigurationProblem, StoreError) as problem:
        print(f"ouro serve: {problem}", file=sys.stderr)
        return WAS_REMOVED if isinstance(problem, NodeRemoved) else CANT_START


def _check_folder(config: Config) -> None:
    """One node's data don't go among those of several.

    Raises:
        ConfigurationProblem: the data folder is a ring's.
    """
    try:
        holds_ring = is_there(config.data_path)
    except LayoutError as error:
        raise ConfigurationProblem(str(error)) from error
    if holds_ring:
        raise ConfigurationProblem(
            f"{config.data_path} holds several nodes: start them with `ouro serve --cores`, or `ouro up`, as before"
        )
