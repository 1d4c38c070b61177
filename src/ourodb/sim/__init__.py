"""A whole cluster in one process on virtual time: one seed gives one run, byte for byte.

The nodes are the real ones. What is simulated is the world that ``ports`` describes, from the bottom up:

``chance``     every draw comes from the one seed, each user's from a stream of its own
``trace``      the hash over all that happens, by which two runs are one; the story for people
``loop``       virtual time: a queue of events, and nothing else that moves
``tasks``      scripts that wait: workloads and faults read like programs
``clock``      each machine's own idea of time: drift, jumps
``disk``       what survives a crash: whatever was settled, or synced, or luck kept
``network``    who reaches whom, and how late; connections between nodes that stall, reset and refuse
``process``    one run of a program: passes of its loop, its timers, its death
``machine``    a process's home: started, killed, paused, without power
``client``     a CQL client that speaks the wire protocol to a node
``world``      all of it together
``faults``     what goes wrong and when
``workloads``  what clients do; written for any cluster, not only this one
``checkers``   whether what they saw was right
``reach``      when a cluster could be expected to answer
``run``        one run from a seed to a verdict
``profiles``   what a seed stands for where nobody says otherwise
``sweep``      many seeds on all cores; ``python -m ourodb.sim`` runs one or many
``shrink``     a failing run made smaller

Nothing in here but ``sweep`` asks the real clock or draws real chance; a run depends on its arguments alone, not on
PYTHONHASHSEED, the machine's speed or what else runs.

Source: the idea is FoundationDB's; Will Wilson 2014, "Testing Distributed Systems w/ Deterministic Simulation".
"""
