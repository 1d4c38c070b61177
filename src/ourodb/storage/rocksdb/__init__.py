"""The engine below the store: RocksDB, made to behave in one Python process.

========== ====================================================================================
``store``    ``RocksStore``, the ``Store`` that everything above sees
``options``  how RocksDB is set up
``threads``  fsyncs and cold reads off the loop
``folder``   the data folder: lock, format, how far it was synced
``wal``      looks over the write-ahead log before RocksDB replays it
``faults``   what RocksDB's errors mean
``snapshot`` copies of a store: make, verify, restore, read
========== ====================================================================================

What it promises
----------------
- What ``settle`` wrote survives a kill of the process; what ``sync`` confirmed survives a crash of the machine.
- A torn tail of the log is cut and reported. Any other damage is refused at the start, or reported when it is met,
  with what to do about it; it is never served, and what was synced is never silently dropped. Two limits: a log
  file that somebody deleted isn't missed if all its writes are older than the oldest log that is left, and after a
  crash of the machine the mark of what was synced may itself be some seconds old.
- A full disk makes the store read-only before RocksDB notices, and it recovers by itself.
- Nothing waits: a write that would stall is OVERLOADED.
"""

from ourodb.storage.rocksdb.store import RocksStore as RocksStore
