"""The ``compression`` option of a table. OuroDB leaves compression to its engine; the option is checked and shown.

Source: Apache Cassandra 5, ``CompressionParams`` and the compressors.
"""

from __future__ import annotations

from typing import Final

from ourodb.errors import ConfigurationException
from ourodb.schema.properties import parse_double, parse_integer, show_double

PACKAGE: Final = "org.apache.cassandra.io.compress."

COMPRESSORS: Final = {
    "DeflateCompressor": (),
    "LZ4Compressor": ("lz4_compressor_type", "lz4_high_compressor_level"),
    "NoopCompressor": (),
    "SnappyCompressor": (),
    "ZstdCompressor": ("compression_level",),
}
"""Class, without its package, to the options of its own."""


def build_compression(entries: dict[str, str]) -> dict[str, str]:
    """The option as ``system_schema.tables`` shows it.

    Raises:
        ConfigurationException: with Cassandra's text.
    """
    rest = dict(entries)
    enabled = rest.pop("enabled", "true").lower() == "true"
    if entries and enabled and "class" not in rest:
        raise ConfigurationException("Missing sub-option 'class' for the 'compression' option.")
    if not enabled and rest:
        raise ConfigurationException(
            "If the 'enabled' option is set to false no other options must be specified"
        )
    if "class" not in rest:
        return {"enabled": "false"}
    given = rest.pop("class")
    if not given:
        raise ConfigurationException(
            "The 'class' option must not be empty. To disable compression use 'enabled' : false"
        )
    chunk_kib = _chunk_length(rest.pop("chunk_length_in_kb", "16"))
    ratio = _ratio(rest.pop("min_compress_ratio", "0.0"))
    name = _known_class(given)
    for option in rest:
        if option not in COMPRESSORS[name]:
            raise ConfigurationException(f"Unknown compression options {option}")
    _check_levels(rest)
    _check_chunk(chunk_kib)
    if ratio < 0:
        raise ConfigurationException("Invalid negative min_compress_ratio")
    if 0 < ratio < 1:
        raise ConfigurationException("min_compress_ratio can either be 0 or greater than or equal to 1")
    shown = rest | {"class": PACKAGE + name, "chunk_length_in_kb": str(chunk_kib)}
    if ratio:
        shown["min_compress_ratio"] = show_double(ratio)
    return shown


def _known_class(given: str) -> str:
    full = given if "." in given else PACKAGE + given
    name = full.removeprefix(PACKAGE)
    if name not in COMPRESSORS:
        raise ConfigurationException(f"Could not create Compression for type {full}")
    return name


def _chunk_length(text: str) -> int:
    number = parse_integer(text, 32)
    if number is None:
        raise ConfigurationException("Invalid value for chunk_length_in_kb")
    if number > (2**31 - 1) // 1024:
        raise ConfigurationException(f"Value of chunk_length_in_kb is too large ({number})")
    return number


def _check_chunk(chunk_kib: int) -> None:
    if chunk_kib <= 0:
        raise ConfigurationException("Invalid negative or null chunk_length_in_kb")
    if chunk_kib & (chunk_kib - 1):
        raise ConfigurationException("chunk_length_in_kb must be a power of 2")


def _ratio(text: str) -> float:
    number = parse_double(text)
    if number is None:
        raise ConfigurationException(f"Invalid value {text} for min_compress_ratio")
    return number


def _check_levels(options: dict[str, str]) -> None:
    kind = options.get("lz4_compressor_type", "fast")
    if kind not in ("fast", "high"):
        raise ConfigurationException(
            f"Invalid compressor type '{kind}' specified for LZ4 parameter 'lz4_compressor_type'. "
            "Valid options are [high, fast]."
        )
    level = options.get("lz4_high_compressor_level")
    if level is not None and (parse_integer(level, 32) or 0) not in range(1, 18):
        raise ConfigurationException(
            f"Invalid value [{level}] for parameter 'lz4_high_compressor_level'. Value must be between 1 and 17."
        )
    level = options.get("compression_level")
    if level is not None:
        number = parse_integer(level, 32)
        failed = "ZstdCompressor.create() threw an error: java.lang."
        if number is None:
            raise ConfigurationException(f'{failed}NumberFormatException For input string: "{level}"')
        if not -131072 <= number <= 22:
            raise ConfigurationException(
                f"{failed}IllegalArgumentException compression_level={number} is invalid"
            )
