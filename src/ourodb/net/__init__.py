"""Where OuroDB meets the operating system: the event loop, sockets, clocks, randomness, the admin API.

Only this package (with the command line and the RocksDB adapter) may touch them. Everything else takes its effects
through ``ports.py``, so that the simulator can stand in for this package.
"""
