"""The options of a table: from what WITH says to ``TableOptions``.

OuroDB acts on few of them (``default_time_to_live``, ``gc_grace_seconds``, the comment, which is shown); the others
configure parts of Cassandra that it doesn't have. They are checked as Cassandra checks them, kept and shown, so that
scripts and tools that set them work and a schema moves between the two without loss.

Source: Apache Cassandra 5, ``TableAttributes``, ``TableParams``, ``CachingParams``, ``CompressionParams``,
``CompactionParams``, ``SpeculativeRetryPolicy``.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

from ourodb.errors import ConfigurationException
from ourodb.schema.compaction import build_compaction
from ourodb.schema.compression import build_compression
from ourodb.schema.model import TableOptions, frozen_map
from ourodb.schema.properties import (
    Properties,
    boolean_of,
    check_known,
    double_of,
    integer_of,
    map_of,
    parse_double,
    parse_integer,
    show_double,
    text_of,
)

TTL_SECONDS_MAX: Final = 20 * 365 * 24 * 60 * 60
"""Twenty years."""

BLOOM_FILTER_FP_CHANCE_MIN: Final = 6.71e-05
"""What the largest filter that Cassandra knows would reach."""

KNOWN: Final = (
    "additional_write_policy",
    "allow_auto_snapshot",
    "auto_repair",
    "bloom_filter_fp_chance",
    "caching",
    "cdc",
    "comment",
    "compaction",
    "compression",
    "crc_check_chance",
    "default_time_to_live",
    "extensions",
    "gc_grace_seconds",
    "id",
    "incremental_backups",
    "max_index_interval",
    "memtable",
    "memtable_flush_period_in_ms",
    "min_index_interval",
    "read_repair",
    "speculative_retry",
)

_PERCENTILE = re.compile(r"([0-9.]+)p(ercentile)?", re.ASCII | re.IGNORECASE)
_FIXED = re.compile(r"([0-9.]+)ms", re.ASCII | re.IGNORECASE)
_HYBRID = re.compile(r"(MIN|MAX)\(([0-9.]+[a-z]+)\s*,\s*([0-9.]+[a-z]+)\)", re.ASCII | re.IGNORECASE)
_LEVELED: Final = "org.apache.cassandra.db.compaction.LeveledCompactionStrategy"


def new_options(properties: Properties) -> TableOptions:
    """Options of a new table.

    Raises:
        CqlSyntaxError: an unknown option, or a value of the wrong form.
        ConfigurationException: a value out of range.
    """
    check_known(properties, KNOWN)
    if "auto_repair" in properties:
        raise ConfigurationException(
            "auto_repair option is not supported unless auto-repair is enabled with -Dcassandra.autorepair.enable=true"
        )
    options = _with(properties, TableOptions())
    if "bloom_filter_fp_chance" not in properties and options.compaction["class"] == _LEVELED:
        options = replace(options, bloom_filter_fp_chance=0.1)
    _check_ranges(options)
    return options


def altered_options(properties: Properties, previous: TableOptions) -> TableOptions:
    """Options of a table after ALTER TABLE WITH. As in Cassandra, ranges are checked as if the table were new.

    Raises:
        As ``new_options``.
    """
    new_options(properties)
    if "id" in properties:
        raise ConfigurationException("Cannot alter table id.")
    return _with(properties, previous)


def _with(properties: Properties, options: TableOptions) -> TableOptions:
    given: dict[str, Any] = {}
    for name in ("comment",):
        given[name] = text_of(properties, name)
    for name in ("allow_auto_snapshot", "cdc", "incremental_backups"):
        given[name] = boolean_of(properties, name)
    for name in ("bloom_filter_fp_chance", "crc_check_chance"):
        given[name] = double_of(properties, name)
    for name in (
        "default_time_to_live",
        "gc_grace_seconds",
        "max_index_interval",
        "memtable_flush_period_in_ms",
        "min_index_interval",
    ):
        given[name] = integer_of(properties, name)
    for name in ("speculative_retry", "additional_write_policy"):
        policy = text_of(properties, name)
        given[name] = None if policy is None else _speculative_retry(policy)
    given["read_repair"] = _read_repair(text_of(properties, "read_repair"))
    given["memtable"] = _memtable(text_of(properties, "memtable"))
    for name, build in (
        ("caching", _caching),
        ("compaction", build_compaction),
        ("compression", build_compression),
    ):
        entries = map_of(properties, name)
        given[name] = None if entries is None else frozen_map(build(entries))
    return replace(options, **{name: value for name, value in given.items() if value is not None})


def _check_ranges(options: TableOptions) -> None:
    def require(holds: bool, message: str) -> None:
        if not holds:
            raise ConfigurationException(message)

    fp_chance = options.bloom_filter_fp_chance
    require(
        BLOOM_FILTER_FP_CHANCE_MIN < fp_chance <= 1,
        f"bloom_filter_fp_chance must be larger than {show_double(BLOOM_FILTER_FP_CHANCE_MIN)} and less than or "
        f"equal to 1.0 (got {show_double(fp_chance)})",
    )
    crc = options.crc_check_chance
    require(
        0 <= crc <= 1,
        "crc_check_chance must be larger than or equal to 0 and smaller than or equal to 1.0 "
        f"(got {show_double(crc)})",
    )
    ttl = options.default_time_to_live
    require(ttl >= 0, f"default_time_to_live must be greater than or equal to 0 (got {ttl})")
    require(
        ttl <= TTL_SECONDS_MAX,
        f"default_time_to_live must be less than or equal to {TTL_SECONDS_MAX} (got {ttl})",
    )
    grace = options.gc_grace_seconds
    require(grace >= 0, f"gc_grace_seconds must be greater than or equal to 0 (got {grace})")
    low, high = options.min_index_interval, options.max_index_interval
    require(low >= 1, f"min_index_interval must be greater than or equal to 1 (got {low})")
    require(
        high >= low,
        f"max_index_interval must be greater than or equal to min_index_interval ({low}) (got {high})",
    )
    period = options.memtable_flush_period_in_ms
    require(period >= 0, f"memtable_flush_period_in_ms must be greater than or equal to 0 (got {period})")


def _caching(entries: dict[str, str]) -> dict[str, str]:
    unknown = [name for name in entries if name not in ("keys", "rows_per_partition")]
    keys = entries.get("keys", "NONE").upper()
    if keys not in ("ALL", "NONE"):
        raise ConfigurationException(
            f"Invalid value '{entries['keys']}' for caching sub-option 'keys': only 'ALL' and 'NONE' are allowed"
        )
    rows = entries.get("rows_per_partition", "NONE").upper()
    if rows not in ("ALL", "NONE"):
        number = parse_integer(rows, 32) if rows.isdecimal() else None
        if number is None:
            raise ConfigurationException(
                f"Invalid value '{entries['rows_per_partition']}' for caching sub-option 'rows_per_partition': "
                "only 'ALL', 'NONE', and integer values are allowed"
            )
        rows = {0: "NONE", 2**31 - 1: "ALL"}.get(number, str(number))
    if unknown:
        raise ConfigurationException(
            f"Invalid caching sub-options [{', '.join(unknown)}]: only 'keys' and 'rows_per_partition' are allowed"
        )
    return {"keys": keys, "rows_per_partition": rows}


def _memtable(name: str | None) -> str | None:
    if name is not None and name != "default":
        raise ConfigurationException(f'Memtable configuration "{name}" not found.')
    return name


def _read_repair(name: str | None) -> str | None:
    if name is not None and name.upper() not in ("NONE", "BLOCKING"):
        raise ConfigurationException(f"Invalid value {name} for option 'read_repair'")
    return None if name is None else name.upper()


def _speculative_retry(text: str) -> str:
    """The policy as Cassandra writes it back."""
    if text.upper() in ("ALWAYS", "NEVER"):
        return text.upper()
    invalid = ConfigurationException(f"Invalid value {text} for option 'speculative_retry'")
    if match := _PERCENTILE.fullmatch(text):
        percentile = parse_double(match[1])
        if percentile is None:
            raise invalid
        if not 0 < percentile < 100:
            raise ConfigurationException(
                f"Invalid value {text} for PERCENTILE option 'speculative_retry': must be between (0.0 and 100.0)"
            )
        return f"{percentile:.4f}".rstrip("0").rstrip(".") + "p"
    if match := _FIXED.fullmatch(text):
        milliseconds = parse_double(match[1])
        if milliseconds is None:
            raise invalid
        return f"{min(int(milliseconds), 2**31 - 1)}ms"
    if match := _HYBRID.fullmatch(text):
        try:
            parts = [_speculative_retry(match[2]), _speculative_retry(match[3])]
        except ConfigurationException:
            raise invalid from None
        kinds = ["PERCENTILE" if part.endswith("p") else "FIXED" for part in parts]
        if kinds[0] == kinds[1]:
            raise ConfigurationException(
                f"Invalid value {text} for option 'speculative_retry': MIN()/MAX() arguments should be of "
                f"different types, but both are of type {kinds[0]}"
            )
        percentile_first = parts if kinds[0] == "PERCENTILE" else parts[::-1]
        return f"{match[1].upper()}({','.join(percentile_first)})"
    raise invalid
