"""A node's configuration: gathered from four places, checked once, then immutable.

Precedence, strongest first: command line, environment (``OURO_<NAME>``), TOML file, default. Every option
exists in all
of them under the same name: ``--cql-port``, ``OURO_CQL_PORT``, ``cql-port = 9042`` (``cql_port`` is read as
well). An unknown key, a value of the wrong type or out of bounds raises ``ConfigurationProblem`` with one
line that names its source, because a node that guesses what its operator meant loses data.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ourodb import limits
from ourodb.errors import ConfigurationProblem

ENVIRONMENT_PREFIX = "OURO_"
OTHERS_VARIABLES = (f"{ENVIRONMENT_PREFIX}CONFIG", f"{ENVIRONMENT_PREFIX}BENCH_")
"""Those that aren't options of a node."""
CONFIG_FILE_BYTES_MAX = 1 << 20
DEFAULT_PEER_PORT = 7000


def _option(
    default: object,
    help_text: str,
    *,
    choices: tuple[str, ...] = (),
    least: int = 0,
    most: int = 2**31,
    empty: bool = False,
    hidden: bool = False,
) -> Any:
    metadata = {
        "help": help_text, "choices": choices, "least": least, "most": most, "empty": empty, "hidden": hidden,
    }  # fmt: skip
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Config:
    """What ``ouro serve`` runs with. The metadata of each field is its help text and bounds."""

    listen: str = _option("127.0.0.1", "Address to listen on.")
    cql_port: int = _option(9042, "Port for CQL clients; 0 takes any free one.", most=65535)
    peer_port: int = _option(DEFAULT_PEER_PORT, "Port for the other nodes of the ring.", most=65535)
    admin_port: int = _option(7070, "Port of the admin API and metrics; 0 takes any free one.", most=65535)
    data: str = _option("ouro-data", "Folder that holds this node's data.")
    advertise: str = _option(
        "", "Address at which other nodes and clients reach this one; --listen if not given.", empty=True
    )
    join: str = _option(
        "", "Nodes of the cluster to join, as host or host:peer-port with commas between.", empty=True
    )
    replace: int = _option(
        0, "Number of a node that is gone for good, in whose place this one joins; 0 for none.", least=0
    )
    secret: str = _option(
        "",
        "What the nodes of a cluster prove to each other that they know; @FILE reads it. A new cluster makes one and"
        " keeps it in its data folder, in the file 'secret'.",
        empty=True,
    )
    cluster_name: str = _option("OuroDB", "Name of the cluster.")
    dc: str = _option("datacenter1", "Data centre of this node.")
    rack: str = _option("rack1", "Rack of this node.")
    host_id: str = _option(
        "",
        "Name of the machine: nodes with the same one fail together, so copies are kept apart. Its host name if not"
        " given.",
        empty=True,
    )
    cores: int = _option(
        1,
        "Processes, each a member of the ring with ports of its own, counted up from those given, and a folder in"
        " --data: how one machine uses all its cores.",
        least=1,
        most=limits.CORES_MAX,
    )
    num_tokens: int = _option(16, "Tokens of this node on the ring.", least=1, most=1024)
    heal_after: int = _option(
        600,
        "Seconds for which a node must have been down before the others give it up, and its ranges new replicas; 0 for"
        " never.",
        most=limits.HEAL_AFTER_SECONDS_MAX,
    )
    stream_bytes_per_s: int = _option(
        0,
        "Bytes a second that this node copies from others when it gains rows of theirs; 0 for as many as come.",
    )
    gossip_ms: int = _option(1000, "Time from one round of gossip to the next.", least=50, most=60_000)
    durability: str = _option(
        "group",
        "When a write is acknowledged: 'group' after an fsync that concurrent writes share, 'periodic' at once, with"
        " an fsync every --sync-period-ms.",
        choices=("group", "periodic"),
    )
    sync_period_ms: int = _option(
        1000, "Longest time between two fsyncs under periodic durability.", least=1, most=3_600_000
    )
    memtable_mb: int = _option(32, "Memory for writes not yet in data files, MiB.", least=1, most=65536)
    cache_mb: int = _option(32, "Memory for blocks read from data files, MiB.", least=1, most=1 << 20)
    tombstone_warn: int = _option(
        limits.TOMBSTONES_WARN,
        "Tombstones that a read meets in one partition past which its client is warned.",
        least=1,
    )
    tombstone_fail: int = _option(
        limits.TOMBSTONES_FAIL,
        "Tombstones that a read meets in one partition past which it fails.",
        least=1,
    )
    log_level: str = _option(
        "info", "Least level that is logged.", choices=("debug", "info", "warning", "error")
    )
    log_format: str = _option("text", "How log lines look.", choices=("text", "json"))
    faults: str = _option(
        "off",
        "Whether the admin API lets tests cut this node off from others.",
        choices=("off", "on"),
        hidden=True,
    )

    @property
    def data_path(self) -> Path:
        return expanded(self.data)

    @property
    def seeds(self) -> list[tuple[str, int]]:
        """The nodes of ``join``.

        Raises:
            ConfigurationProblem: one isn't host or host:port.
        """
        found = []
        for part in filter(None, (part.strip() for part in self.join.split(","))):
            host, colon, port = part.rpartition(":")
            if not colon or (host.count(":") and not host.startswith("[")):
                host, port = part, str(DEFAULT_PEER_PORT)
            if not port.isdigit() or not 0 < int(port) < 65536:
                raise ConfigurationProblem(f"--join: '{part}' isn't host or host:port")
            found.append((host.strip("[]"), int(port)))
        return found


def expanded(path: str | Path) -> Path:
    """With ~ and ~name as a shell has them: as they are where there is nobody of that name."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


OPTIONS = {option.name: option for option in fields(Config)}


def load(
    arguments: Mapping[str, object | None],
    environment: Mapping[str, str],
    file: str | None = None,
) -> Config:
    """The configuration that the given sources add up to.

    Args:
        arguments: options from the command line by field name; None where one wasn't given.
        environment: the process's environment.
        file: path of the TOML file; None for none (``OURO_CONFIG`` counts as well).
    Raises:
        ConfigurationProblem: an option is unknown, of the wrong type or out of bounds, or lacks another one, or the
            file can't be read.
    """
    values: dict[str, object] = {}
    path = file or environment.get(f"{ENVIRONMENT_PREFIX}CONFIG")
    if path:
        values.update(_from_file(path))
    values.update(_from_environment(environment))
    for name, argument in arguments.items():
        if argument is not None:
            values[name] = _checked(name, argument, f"--{name.replace('_', '-')}")
    config = Config(**values)  # type: ignore[arg-type]
    if config.replace and not config.join:
        raise ConfigurationProblem(
            f"--replace {config.replace} takes --join, with another node of its cluster; alone, this node would found a"
            " new one"
        )
    return config


def _from_file(path: str) -> dict[str, object]:
    try:
        text = expanded(path).read_bytes()
    except OSError as error:
        raise ConfigurationProblem(f"can't read the configuration {path}: {error.strerror}") from error
    if len(text) > CONFIG_FILE_BYTES_MAX:
        raise ConfigurationProblem(f"the configuration {path} has more than {CONFIG_FILE_BYTES_MAX} bytes")
    try:
        parsed = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationProblem(f"the configuration {path} isn't valid TOML: {error}") from error
    values: dict[str, object] = {}
    for key, value in parsed.items():
        name = key.replace("-", "_")
        if name not in OPTIONS:
            raise ConfigurationProblem(f"unknown key '{key}' in {path}; known keys: {_known()}")
        values[name] = _checked(name, value, f"{key} in {path}")
    return values


def _from_environment(environment: Mapping[str, str]) -> dict[str, object]:
    values: dict[str, object] = {}
    for variable, text in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable.startswith(OTHERS_VARIABLES):
            continue
        name = variable[len(ENVIRONMENT_PREFIX) :].lower()
        if name not in OPTIONS:
            raise ConfigurationProblem(f"unknown environment variable {variable}; known options: {_known()}")
        values[name] = _checked(name, text, variable)
    return values


def _checked(name: str, value: object, source: str) -> object:
    """The value in the option's own type, or a ConfigurationProblem that names the source."""
    option = OPTIONS[name]
    if option.type == "int":
        if isinstance(value, str):
            try:
                value = int(value)
            except ValueError:
                raise ConfigurationProblem(f"{source}: expected a whole number, got '{value}'") from None
        if not isinstance(value, int) or isinstance(value, bool):
            raise ConfigurationProblem(f"{source}: expected a whole number, got {value!r}")
        least, most = option.metadata["least"], option.metadata["most"]
        if not least <= value <= most:
            raise ConfigurationProblem(f"{source}: {value} is not between {least} and {most}")
        return value
    if not isinstance(value, str):
        raise ConfigurationProblem(f"{source}: expected a string, got {value!r}")
    choices = option.metadata["choices"]
    if choices and value not in choices:
        raise ConfigurationProblem(f"{source}: '{value}' is none of {', '.join(choices)}")
    if not value and not option.metadata["empty"]:
        raise ConfigurationProblem(f"{source}: must not be empty")
    return value


def _known() -> str:
    return ", ".join(
        name.replace("_", "-") for name, option in OPTIONS.items() if not option.metadata["hidden"]
    )
