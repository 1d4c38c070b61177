"""How RocksDB is set up.

The engine is to be small and quick to open, so that a node answers within a second and idles in a few dozen MiB:

- The budget is two memtables of the rows' family, smaller ones for the others, and one block cache for all. Index and
  filter blocks are charged to that cache, so memory doesn't grow with the data.
- Bloom filters of 10 bits a key, over whole keys, in data files and in memtables: looking for a row that isn't there,
  which every first write of a row does, costs 0.3 µs instead of 2.
- LZ4 everywhere: Python is the bottleneck, not the disk's last bytes.
- ``tolerate_corrupted_tail_records``: a torn tail of the write-ahead log is cut, damage in it refuses to open. What
  RocksDB gets wrong there, ``wal`` looks for beforehand.
- Paranoid checks: a wrong checksum is an error, wherever it is met.
"""

from __future__ import annotations

from dataclasses import dataclass

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    WriteOptions,
)

from ourodb import limits
from ourodb.storage.families import DATA, NAMES

ENGINE_NAMES = ("default", *NAMES[1:])
"""RocksDB's names of the families. DATA is the one that always exists, and that batches write to by default."""

BLOOM_BITS_PER_KEY = 10
MEMTABLE_BLOOM_FRACTION = 0.02
BLOCK_BYTES = 8 * limits.KIB
FORMAT_VERSION = 5
BACKGROUND_JOBS_MAX = 2
DATA_FILE_BYTES = 32 * limits.MIB
LEVEL_BASE_BYTES = 128 * limits.MIB
BYTES_PER_SYNC = 1 * limits.MIB
MANIFEST_BYTES_MAX = 16 * limits.MIB
MANIFEST_PREALLOCATED_BYTES = 64 * limits.KIB


@dataclass(frozen=True, slots=True)
class Budget:
    """Memory that the engine may use."""

    memtable_bytes: int = limits.MEMTABLE_BYTES
    cache_bytes: int = limits.BLOCK_CACHE_BYTES


def engine_options(budget: Budget) -> tuple[Options, dict[str, Options]]:
    """Options of the engine and of each family, by the engine's name of it."""
    tables = BlockBasedOptions()
    tables.set_block_cache(Cache(budget.cache_bytes))
    tables.set_bloom_filter(BLOOM_BITS_PER_KEY, False)
    tables.set_block_size(BLOCK_BYTES)
    tables.set_format_version(FORMAT_VERSION)
    tables.set_cache_index_and_filter_blocks(True)
    tables.set_pin_l0_filter_and_index_blocks_in_cache(True)
    families = {
        name: _family_options(
            tables,
            budget.memtable_bytes
            if family == DATA
            else min(limits.SMALL_FAMILY_MEMTABLE_BYTES, budget.memtable_bytes),
        )
        for family, name in enumerate(ENGINE_NAMES)
    }
    options = families[ENGINE_NAMES[DATA]]
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    options.set_paranoid_checks(True)
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_max_total_wal_size(max(limits.WAL_BYTES_MAX, 3 * budget.memtable_bytes))
    options.set_max_background_jobs(BACKGROUND_JOBS_MAX)
    options.set_max_open_files(limits.OPEN_DATA_FILES_MAX)
    options.set_bytes_per_sync(BYTES_PER_SYNC)
    options.set_max_manifest_file_size(MANIFEST_BYTES_MAX)
    options.set_manifest_preallocation_size(MANIFEST_PREALLOCATED_BYTES)
    options.set_max_log_file_size(limits.ENGINE_LOG_BYTES_MAX)
    options.set_keep_log_file_num(limits.ENGINE_LOGS_MAX)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    # One thread writes.
    options.set_allow_concurrent_memtable_write(False)
    options.set_enable_write_thread_adaptive_yield(False)
    return options, families


def write_options() -> WriteOptions:
    """Writes fail rather than wait: a stall would freeze the whole node."""
    options = WriteOptions()
    options.no_slowdown = True
    return options


def _family_options(tables: BlockBasedOptions, memtable_bytes: int) -> Options:
    options = Options(raw_mode=True)
    options.set_block_based_table_factory(tables)
    options.set_write_buffer_size(memtable_bytes)
    options.set_max_write_buffer_number(limits.MEMTABLES_MAX)
    options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_FRACTION)
    options.set_memtable_whole_key_filtering(True)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_level_compaction_dynamic_level_bytes(True)
    options.set_target_file_size_base(DATA_FILE_BYTES)
    options.set_max_bytes_for_level_base(LEVEL_BASE_BYTES)
    return options
