"""The ``compaction`` option of a table. OuroDB leaves compaction to its engine; the option is checked and shown.

Source: Apache Cassandra 5, ``CompactionParams`` and the ``validateOptions`` of each strategy.
"""

from __future__ import annotations

from typing import Final

from ourodb.errors import ConfigurationException
from ourodb.schema.properties import parse_double, parse_integer, show_double

PACKAGE: Final = "org.apache.cassandra.db.compaction."

_OF_ALL: Final = (
    "enabled",
    "log_all",
    "only_purge_repaired_tombstones",
    "provide_overlapping_tombstones",
    "tombstone_compaction_interval",
    "tombstone_threshold",
    "unchecked_tombstone_compaction",
)
_THRESHOLDS: Final = ("max_threshold", "min_threshold")
_TIERED: Final = ("bucket_high", "bucket_low", "min_sstable_size")
_WINDOWED: Final = (
    "compaction_window_size",
    "compaction_window_unit",
    "expired_sstable_check_frequency_seconds",
    "timestamp_resolution",
    "unsafe_aggressive_sstable_expiration",
)

STRATEGIES: Final = {
    "LeveledCompactionStrategy": (
        *_THRESHOLDS,
        *_TIERED,
        "fanout_size",
        "single_sstable_uplevel",
        "sstable_size_in_mb",
    ),
    "SizeTieredCompactionStrategy": (*_THRESHOLDS, *_TIERED),
    "TimeWindowCompactionStrategy": (*_THRESHOLDS, *_TIERED, *_WINDOWED),
    "UnifiedCompactionStrategy": (
        "base_shard_count",
        "expired_sstable_check_frequency_seconds",
        "flush_size_override",
        "max_sstables_to_compact",
        "min_sstable_size",
        "overlap_inclusion_method",
        "scaling_parameters",
        "sstable_growth",
        "target_sstable_size",
        "unsafe_aggressive_sstable_expiration",
    ),
}
"""Class, without its package, to the options of its own."""

TIME_WINDOW: Final = PACKAGE + "TimeWindowCompactionStrategy"


def build_compaction(entries: dict[str, str]) -> dict[str, str]:
    """The option as ``system_schema.tables`` shows it.

    Raises:
        ConfigurationException: with Cassandra's text.
    """
    options = dict(entries)
    given = options.pop("class", None)
    if given is None:
        raise ConfigurationException("Missing sub-option 'class' for the 'compaction' option")
    full = given if "." in given else PACKAGE + given
    name = full.removeprefix(PACKAGE)
    if name not in STRATEGIES:
        raise ConfigurationException(f"Unable to find compaction strategy class '{full}'")
    overlapping = options.get("provide_overlapping_tombstones", "NONE").upper()
    if overlapping not in ("NONE", "ROW", "CELL"):
        raise ConfigurationException(
            f"Invalid value {overlapping} for 'provide_overlapping_tombstones' compaction sub-option - must be one "
            "of the following [NONE, ROW, CELL]."
        )
    own = STRATEGIES[name]
    if "min_threshold" in own:
        options = {"max_threshold": "32", "min_threshold": "4"} | options
    _check_of_all(options)
    if "bucket_low" in own:
        _check_tiered(options)
    if "compaction_window_unit" in own:
        _check_windowed(options)
    if "sstable_size_in_mb" in own:
        _check_positive(options, "sstable_size_in_mb", "%s must be larger than 0, but was %s")
        _check_positive(options, "fanout_size", "%s must be larger than 0, but was %s")
    if "base_shard_count" in own:
        _check_positive(options, "base_shard_count", "Invalid configuration, %s should be positive: %s")
    unknown = [option for option in options if option not in own and option not in _OF_ALL]
    if unknown:
        raise ConfigurationException(
            f"Properties specified [{', '.join(unknown)}] are not understood by {name}"
        )
    _check_thresholds(options)
    return options | {"class": full}


def _check_of_all(options: dict[str, str]) -> None:
    threshold = options.get("tombstone_threshold")
    if threshold is not None:
        number = parse_double(threshold)
        if number is None:
            raise _not_an_int(threshold, "tombstone_threshold")
        if number < 0:
            raise ConfigurationException(f"tombstone_threshold must be greater than 0, but was {number:f}")
    interval = options.get("tombstone_compaction_interval")
    if interval is not None:
        seconds = parse_integer(interval, 64)
        if seconds is None:
            raise _not_an_int(interval, "tombstone_compaction_interval")
        if seconds < 0:
            raise ConfigurationException(
                f"tombstone_compaction_interval must be greater than 0, but was {seconds}"
            )
    for name, message in (
        ("unchecked_tombstone_compaction", "'%s' should be either 'true' or 'false', not '%s'"),
        ("log_all", "'%s' should either be 'true' or 'false', not %s"),
        ("enabled", "%s should either be 'true' or 'false', not %s"),
    ):
        value = options.get(name)
        if value is not None and value.lower() not in ("true", "false"):
            raise ConfigurationException(message % (name, value))


def _check_thresholds(options: dict[str, str]) -> None:
    numbers = {}
    for name, default in (("min_threshold", 4), ("max_threshold", 32)):
        text = options.get(name, str(default))
        number = parse_integer(text, 32) if text.isdecimal() else None
        if number is None:
            raise ConfigurationException(
                f"Invalid value {text} for '{name}' compaction sub-option - must be an integer"
            )
        numbers[name] = number
    low, high = numbers["min_threshold"], numbers["max_threshold"]
    if low <= 0 or high <= 0:
        raise ConfigurationException(
            "Disabling compaction by setting compaction thresholds to 0 has been removed, set the compaction option "
            "'enabled' to false instead."
        )
    if low <= 1:
        raise ConfigurationException(f"Min compaction threshold cannot be less than 2 (got {low})")
    if low > high:
        raise ConfigurationException(
            f"Min compaction threshold (got {low}) cannot be greater than max compaction threshold (got {high})"
        )


def _check_tiered(options: dict[str, str]) -> None:
    size = options.get("min_sstable_size", "0")
    number = parse_integer(size, 64)
    if number is None:
        raise _not_an_int(size, "min_sstable_size")
    if number < 0:
        raise ConfigurationException(f"min_sstable_size must be non negative: {number}")
    buckets = []
    for name, default in (("bucket_low", 0.5), ("bucket_high", 1.5)):
        value = options.get(name)
        bucket = default if value is None else parse_double(value)
        if bucket is None:
            raise ConfigurationException(f"{value} is not a parsable float for {name}")
        buckets.append(bucket)
    low, high = buckets
    if high <= low:
        raise ConfigurationException(
            f"bucket_high value ({show_double(high)}) is less than or equal to the bucket_low value "
            f"({show_double(low)})"
        )


def _check_windowed(options: dict[str, str]) -> None:
    for name, valid in (
        ("timestamp_resolution", ("SECONDS", "MILLISECONDS", "MICROSECONDS", "NANOSECONDS")),
        ("compaction_window_unit", ("MINUTES", "HOURS", "DAYS")),
    ):
        value = options.get(name)
        if value is not None and value not in valid:
            raise ConfigurationException(f"{value} is not valid for {name}")
    size = options.get("compaction_window_size", "1")
    number = parse_integer(size, 32)
    if number is None:
        raise _not_an_int(size, "compaction_window_size")
    if number < 1:
        raise ConfigurationException(f"{number} must be greater than 1 for compaction_window_size")
    frequency = options.get("expired_sstable_check_frequency_seconds", "600")
    seconds = parse_integer(frequency, 64)
    if seconds is None:
        raise _not_an_int(frequency, "expired_sstable_check_frequency_seconds")
    if seconds < 0:
        raise ConfigurationException(
            f"expired_sstable_check_frequency_seconds must not be negative, but was {seconds}"
        )
    unsafe = options.get("unsafe_aggressive_sstable_expiration", "false")
    if unsafe.lower() not in ("true", "false"):
        raise ConfigurationException(
            f"unsafe_aggressive_sstable_expiration is not 'true' or 'false' ({unsafe})"
        )
    if unsafe.lower() == "true":
        raise ConfigurationException(
            "unsafe_aggressive_sstable_expiration is requested but not allowed, restart cassandra with "
            "-Dcassandra.allow_unsafe_aggressive_sstable_expiration=true to allow it"
        )


def _check_positive(options: dict[str, str], name: str, message: str) -> None:
    text = options.get(name)
    if text is None:
        return
    number = parse_integer(text, 32)
    if number is None:
        raise _not_an_int(text, name)
    if number < 1:
        raise ConfigurationException(message % (name, number))


def _not_an_int(text: str, name: str) -> ConfigurationException:
    return ConfigurationException(f"{text} is not a parsable int (base10) for {name}")
