"""Every bound in the system, with its unit last in its name.

A queue, a frame, a batch or a page without a bound here is a bug. Bounds that depend on each other are
asserted together at the end of their section. Plain constants, so that hot code can read them as module
globals; what an operator may change has its default here and its name in ``config``.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# --- Client protocol -------------------------------------------------------------------------------------------

FRAME_BYTES_MAX: Final = 16 * MIB
"""Body of one message, before and after decompression; Cassandra's ``native_transport_max_frame_size``."""

RESPONSE_BYTES_MAX: Final = 256 * MIB
"""Body of one response that our own client takes; the protocol's bound."""

UNAUTHENTICATED_MESSAGE_BYTES_MAX: Final = 64 * KIB
"""Body of one message from a client that has not passed STARTUP and authentication."""

SEGMENT_PAYLOAD_BYTES_MAX: Final = 128 * KIB - 1
"""Payload of one v5 segment: 17 bits of length. Fixed by the protocol."""

STARTUP_KEYS_MAX: Final = 64
"""Options in one STARTUP. Drivers send fewer than ten."""

REGISTER_EVENTS_MAX: Final = 16
"""Event types in one REGISTER. Three exist."""

BATCH_STATEMENTS_MAX: Final = 65_535
"""Statements in one BATCH: its [short] count. Fixed by the protocol."""

BIND_VALUES_MAX: Final = 65_535
"""Values bound to one statement: their [short] count. Fixed by the protocol."""

CUSTOM_PAYLOAD_KEYS_MAX: Final = 256
"""Entries in the custom payload of one message."""

COMPRESS_BYTES_MIN: Final = 128
"""A v3/v4 response body below this is sent as it is: compressing it costs more than it saves."""

assert UNAUTHENTICATED_MESSAGE_BYTES_MAX <= SEGMENT_PAYLOAD_BYTES_MAX <= FRAME_BYTES_MAX

# --- Clients ---------------------------------------------------------------------------------------------------

CONNECTIONS_MAX: Final = 16_384
"""Client connections of one node; one more is closed as it comes."""

REQUESTS_IN_FLIGHT_MAX: Final = 4_096
"""Requests of one connection that wait for an answer; past it, nothing more is read until half of them are done."""

LONG_READ_WEIGHT: Final = 256
"""A read that takes several steps counts as so many requests in flight: it gathers a page of up to PAGE_BYTES_MAX."""

OUTGOING_BYTES_HIGH: Final = 4 * MIB
"""Bytes that wait to be written to one client; past it, nothing more is read from it."""

OUTGOING_BYTES_LOW: Final = 1 * MIB
"""Once no more than this waits to be written, the client is read from again."""

HANDSHAKE_SECONDS_MAX: Final = 10
"""From connecting to the end of STARTUP and authentication."""

PARTIAL_MESSAGE_SECONDS_MAX: Final = 30
"""From one complete message to the next while part of one has arrived."""

LARGE_MESSAGE_BYTES: Final = 256 * KIB
"""A message that is half received and has more than this counts against the next bound."""

PARTIAL_MESSAGES_BYTES_MAX: Final = 64 * MIB
"""Large messages that are half received, of all clients together; past it those clients wait, all but one."""

STUCK_CLIENT_SECONDS_MAX: Final = 20
"""How long a client may leave its answers unread while more than OUTGOING_BYTES_LOW of them wait."""

PREPARED_STATEMENTS_MAX: Final = 10_000
"""Prepared statements of one node; the one not used for longest is forgotten, and its clients prepare it again."""

PREPARED_BYTES_MAX: Final = 128 * MIB
"""Plans of all prepared statements of one node, about (``session.statements.plan_bytes``)."""

CACHED_STATEMENTS_MAX: Final = 1_000
"""Unprepared statements whose compiled form is kept."""

CACHED_BYTES_MAX: Final = 32 * MIB
"""Their plans, as of PREPARED_BYTES_MAX."""

CACHED_STATEMENT_BYTES_MAX: Final = 4 * KIB
"""Text of an unprepared statement whose compiled form is kept."""

STATEMENT_BYTES_MAX: Final = 1 * MIB
"""Text of one statement; parsing more would keep other clients waiting."""

assert OUTGOING_BYTES_LOW < OUTGOING_BYTES_HIGH
assert LARGE_MESSAGE_BYTES < FRAME_BYTES_MAX < PARTIAL_MESSAGES_BYTES_MAX
assert CACHED_STATEMENT_BYTES_MAX < STATEMENT_BYTES_MAX <= FRAME_BYTES_MAX
assert STATEMENT_BYTES_MAX < PREPARED_BYTES_MAX

# --- Language --------------------------------------------------------------------------------------------------

EXPRESSION_NESTING_MAX: Final = 100
"""Literals, calls, types and parentheses within each other in a statement. Whoever walks a syntax tree may recurse."""

EXPRESSION_OPERATORS_MAX: Final = 100
"""Arithmetic operators on one path of an expression: each makes the syntax tree deeper by one."""

# --- Schema ----------------------------------------------------------------------------------------------------

KEYSPACES_MAX: Final = 1_000
"""User keyspaces of a cluster."""

TABLES_MAX: Final = 5_000
"""User tables of a cluster, in all keyspaces. Drivers read the whole schema when they connect."""

COLUMNS_PER_TABLE_MAX: Final = 4_096
"""Columns of a table, key columns included."""

COLUMN_IDS_PER_TABLE_MAX: Final = 65_535
"""Columns that a table can have had, dropped ones included: ids are two bytes in stored rows."""

FIELDS_PER_TYPE_MAX: Final = 4_096
"""Fields of a user type."""

METADATA_ENTRIES_PER_SNAPSHOT: Final = 64
"""Entries of the metadata log after which the schema is written whole and the entries before it are dropped."""

assert COLUMNS_PER_TABLE_MAX <= COLUMN_IDS_PER_TABLE_MAX

# --- Queries ---------------------------------------------------------------------------------------------------

KEYS_PER_SELECT_MAX: Final = 65_536
"""Partitions, or slices of rows, that the IN lists of one statement may multiply to."""

ROWS_PER_MODIFICATION_MAX: Final = 16_384
"""Rows, or slices of rows, that the IN lists of one modification, or of a batch, may multiply to: they are changed in
one go.
"""

MODIFICATION_BYTES_MAX: Final = 16 * MIB
"""That the values of one modification, or of a batch, may be multiplied to by its IN lists."""

PAGE_BYTES_MAX: Final = 4 * MIB
"""Encoded rows after which a page ends, however many rows the client asked for."""

RESULT_BYTES_MAX: Final = 64 * MIB
"""Encoded rows of a result that can't be paged; past it the read fails."""

ROWS_PER_STEP: Final = 256
"""Rows that a read looks at before it lets others go on."""

PAGING_STATE_BYTES_MAX: Final = 256 * KIB
"""A paging state from a client: a position and a clustering key, each at most 64 KiB before it is encoded."""

assert PAGE_BYTES_MAX <= RESULT_BYTES_MAX

# --- Storage ---------------------------------------------------------------------------------------------------

MEMTABLE_BYTES: Final = 32 * MIB
"""Rows that are in the write-ahead log but not yet in a data file; another as much while that is being written out."""

MEMTABLES_MAX: Final = 2
"""Memtables of one family, the one being written to included. When all are full, writes are refused: OVERLOADED."""

SMALL_FAMILY_MEMTABLE_BYTES: Final = 8 * MIB
"""As ``MEMTABLE_BYTES``, for the families that hold little."""

BLOCK_CACHE_BYTES: Final = 32 * MIB
"""Uncompressed blocks, indexes and filters of data files, all families together."""

COMPACTION_NICENESS: Final = 5
"""How much less than others the engine's threads that compact data files get of a processor that all want: a third."""

WAL_BYTES_MAX: Final = 96 * MIB
"""Write-ahead logs on disk. Past it the oldest memtables are written out; the rest is replayed at the next start."""

OPEN_DATA_FILES_MAX: Final = 512
"""Data files that the engine keeps open."""

ENGINE_LOG_BYTES_MAX: Final = 1 * MIB
ENGINE_LOGS_MAX: Final = 3
"""RocksDB's own notes."""

FETCHES_AT_ONCE_MAX: Final = 64
"""Keys that aren't in memory which a mutation asks for in one go."""

APPLIED_RECORDS_MAX: Final = FETCHES_AT_ONCE_MAX
"""Of what may be applied in pieces, the records of one: all that it needs can be asked for at once, and kept."""

FETCHED_BYTES_MAX: Final = 16 * MIB
"""Values that weren't in memory which the store keeps after it read them, for those who wait for several."""

PURGE_SLICE_KEYS: Final = 512
"""Stored keys that a purge looks at before others have their turn."""

PURGE_PARTITION_KEYS: Final = 32
"""Each partition counts as so many more: that is what it costs to come to its keys."""

PURGE_ENTRIES_AT_ONCE: Final = 64
"""Partitions that are due which a purge looks up in one go."""

DISK_FREE_BYTES_MIN: Final = 512 * MIB
"""The store is read-only below this; lifted at a quarter more. Room for the memtables, their log and a compaction."""

DISK_FREE_FRACTION_MIN: Final = 0.01
"""The store is read-only below this part of a large disk, too."""

TOMBSTONES_WARN: Final = 1_000
"""Tombstones in one partition past which a read's client is warned; Cassandra's ``tombstone_warn_threshold``."""

TOMBSTONES_FAIL: Final = 100_000
"""Tombstones in one partition past which a read fails; Cassandra's ``tombstone_failure_threshold``."""

SNAPSHOT_NAME_LENGTH_MAX: Final = 64
"""Characters of a snapshot's name."""

SNAPSHOT_MANIFEST_BYTES_MAX: Final = 64 * MIB
"""A snapshot's list of files, with the schema and the placement beside it."""

assert MEMTABLES_MAX * MEMTABLE_BYTES + SMALL_FAMILY_MEMTABLE_BYTES <= WAL_BYTES_MAX
assert DISK_FREE_BYTES_MIN >= 2 * (MEMTABLES_MAX * MEMTABLE_BYTES + WAL_BYTES_MAX)
assert TOMBSTONES_WARN < TOMBSTONES_FAIL

# --- Replication -----------------------------------------------------------------------------------------------

CLOCK_AHEAD_MAX_US: Final = 500_000
"""How far ahead of its own wall clock peers may push a node's hybrid logical clock."""

WRITE_TIMEOUT_MS: Final = 2_000
"""Until replicas must have acknowledged a write; Cassandra's ``write_request_timeout``."""

READ_TIMEOUT_MS: Final = 5_000
"""Until replicas must have answered a read of one partition."""

RANGE_TIMEOUT_MS: Final = 10_000
"""Until replicas must have answered a read of many partitions."""

COUNTER_TIMEOUT_MS: Final = 5_000
"""Until the leader of a counter must have answered."""

HINT_TIMEOUT_MS: Final = 5_000
"""Until a node must have written a batch of hints."""

PAXOS_SETTLED_S_MIN: Final = 3 * 3_600
"""A conditional statement may be in doubt for so long, or for as long as its table keeps deletions."""

PAXOS_TIMEOUT_MS: Final = 2_000
"""Until a quorum must have answered one phase of a conditional write."""

CAS_TIMEOUT_MS: Final = 3_000
"""How long a conditional write is tried again after it lost to others."""

REQUEST_TICK_MS: Final = 10
"""How often deadlines are looked at while something waits for a reply."""

SPECULATE_MS_MIN: Final = 2
"""A read is never sent to one more replica sooner than this."""

PEER_REQUESTS_MAX: Final = 65_536
"""Requests of one node that wait for replies of peers; past it clients are told OVERLOADED."""

PARKED_REQUESTS_MAX: Final = 4_096
"""Requests of peers that wait until this node has caught up with the metadata log."""

CHUNK_BYTES_MAX: Final = 1 * MIB
"""Records after which a replica ends a chunk of a read; the coordinator asks for the next one."""

CHUNK_ROWS_MAX: Final = 5_000
"""Rows after which a replica ends a chunk of a read."""

CHUNK_KEYS_PER_PASS: Final = 1_024
"""Stored keys that a replica reads for one chunk before it ends it early, so that others aren't kept waiting.
Partitions, and slices without a row, count like keys. What stands above rows, and so is read for each chunk again,
counts for half of them at most.
"""

CHUNK_SLICES_MAX: Final = CHUNK_KEYS_PER_PASS
"""Slices of a partition that a chunk is asked for: no replica gets further in one chunk where they have no rows."""

RANGES_AT_ONCE_MAX: Final = 8
"""Token ranges of one scan that are read at the same time, when those before gave few rows."""

HINT_BYTES_MAX: Final = 256 * MIB
"""Mutations that one node keeps for all peers that missed them; past it, new hints are dropped and counted."""

HINT_AGE_MS_MAX: Final = 3 * 3600 * 1000
"""Age past which a hint is dropped rather than delivered; Cassandra's ``max_hint_window``."""

HINT_BATCH_BYTES: Final = 256 * KIB
"""Mutations of one message of hints."""

HINTS_IN_FLIGHT_MAX: Final = 2
"""Messages of hints that wait for one peer's acknowledgement."""

BATCH_LOG_REPLAY_MS: Final = 10_000
"""Age at which a logged batch that wasn't removed is replayed; more than twice WRITE_TIMEOUT_MS."""

BATCH_KEEPER_LATE_MS: Final = 200
"""After so long a keeper of a logged batch that hasn't answered gets company; far above the time of a sync."""

BATCH_LOG_BYTES_MAX: Final = 128 * MIB
"""Batches that one node keeps for other coordinators."""

assert BATCH_LOG_REPLAY_MS >= 2 * WRITE_TIMEOUT_MS
assert SPECULATE_MS_MIN < READ_TIMEOUT_MS < RANGE_TIMEOUT_MS

# --- Peers: connections between nodes ----------------------------------------------------------------------------

PEER_MESSAGE_BYTES_MAX: Final = (17 * MIB, 17 * MIB, 64 * MIB)
"""One message, by lane (urgent, data, bulk). DATA takes what a client may send in one message, and what stands around
it."""

PEER_QUEUE_BYTES_MAX: Final = (8 * MIB, 32 * MIB, 16 * MIB)
"""What may wait to be sent to one peer, by lane; past it, messages are shed. One message may always wait."""

PEER_QUEUED_MESSAGE_BYTES: Final = 64
"""What a message that waits costs beside its bytes."""

PEER_FRAME_BYTES: Final = 256 * KIB
"""Messages that make more than this together go in several frames, so that the first need not wait for the last."""

PEER_COMPRESS_BYTES_MIN: Final = (8 * KIB, 8 * KIB, 512)
"""Frames below this are sent as they are, by lane: compressing them costs more than it saves."""

PEER_UNSENT_BYTES_HIGH: Final = 1 * MIB
"""Bytes that the kernel hasn't taken; past it, messages wait in the queue."""

PEER_UNSENT_BYTES_LOW: Final = 256 * KIB
"""Once no more than this is unsent, the queue is written from again."""

PEER_HANDSHAKE_MESSAGE_BYTES_MAX: Final = 1 * KIB
"""Body of one message of the handshake, of which each side sends three."""

PEER_UNAUTHENTICATED_BYTES_MAX: Final = 4 * KIB
"""What is read in all from someone who hasn't proved yet that he knows the cluster's secret."""

PEER_UNAUTHENTICATED_CONNECTIONS_MAX: Final = 64
"""Accepted connections in their handshake; one more, and the oldest of them is closed."""

PEER_CONNECT_MS_MAX: Final = 750
"""How long one try to reach a peer may take before its handshake begins. The kernel repeats a lost first packet only
after a second, so a link that has healed is found sooner by trying anew."""

PEER_HANDSHAKE_MS_MAX: Final = 3_000
"""From connecting to the end of the handshake, which waits for nothing but the network and two event loops."""

PEER_BACKOFF_MS_MIN: Final = 25
"""After the first failure to reach a peer, before the next try; doubles with each, with as much jitter again."""

PEER_BACKOFF_MS_MAX: Final = 400
"""Between two tries to reach a peer, jitter left out. With PEER_CONNECT_MS_MAX it bounds how late a healed link is
found."""

PEER_UNACKNOWLEDGED_MS_MAX: Final = 2_000
"""A connection whose bytes the peer's kernel doesn't acknowledge for so long is reset (TCP_USER_TIMEOUT)."""

PEER_IDLE_PROBE_SECONDS: Final = 1
"""Silence after which the kernel asks whether the peer's is still there, and between two such questions."""

PEER_COMPLAINTS_INTERVAL_S: Final = 10
"""Between two lines in the log of the same kind about connections that failed."""

CLUSTER_NAME_BYTES_MAX: Final = 255
"""A cluster's name, in UTF-8."""

assert PEER_MESSAGE_BYTES_MAX[1] > FRAME_BYTES_MAX
assert 3 * PEER_HANDSHAKE_MESSAGE_BYTES_MAX < PEER_UNAUTHENTICATED_BYTES_MAX
assert PEER_UNSENT_BYTES_LOW < PEER_UNSENT_BYTES_HIGH < min(PEER_QUEUE_BYTES_MAX)
assert min(PEER_MESSAGE_BYTES_MAX) >= PEER_FRAME_BYTES
assert PEER_CONNECT_MS_MAX + 2 * PEER_BACKOFF_MS_MAX < PEER_UNACKNOWLEDGED_MS_MAX
assert CLUSTER_NAME_BYTES_MAX < PEER_HANDSHAKE_MESSAGE_BYTES_MAX // 2

# --- Ring ------------------------------------------------------------------------------------------------------

TOKENS_PER_NODE: Final = 16
"""Tokens that a node gets when it joins, unless ``num_tokens`` says otherwise."""

TOKENS_PER_NODE_MAX: Final = 128
"""Tokens of one node. More make its share no more even, and everything that goes by ranges slower."""

PLACEMENTS_PER_RING_MAX: Final = 64
"""Ways of replicating whose placement is kept; keyspaces that replicate alike share one. The oldest gives way."""

ALLOCATION_CANDIDATES_PER_TOKEN: Final = 8
"""Ranges that stay in the choice for a new node's tokens, for each of these, after a look at all ranges."""

assert TOKENS_PER_NODE <= TOKENS_PER_NODE_MAX

# --- Consensus ---------------------------------------------------------------------------------------------------

RAFT_ELECTION_MS: Final = 1_000
"""A follower that hears no leader for this, and up to as long again by chance, campaigns."""

RAFT_HEARTBEAT_MS: Final = 200
"""Between two heartbeats of a leader; what was lost on the way is sent again with one."""

RAFT_VOTERS_MAX: Final = 9
"""Voters of a group. Three to five are enough; a few more while they are replaced."""

RAFT_ENTRY_BYTES_MAX: Final = 4 * MIB
"""Payload of one entry. A statement of DDL and all that comes of it is far below."""

RAFT_APPEND_BYTES_MAX: Final = 4 * MIB
"""Payloads of the entries in one message, if there is more than one."""

RAFT_SNAPSHOT_BYTES_MAX: Final = 16 * MIB
"""State in one snapshot, which travels in one message."""

RAFT_MESSAGE_BYTES_MAX: Final = RAFT_SNAPSHOT_BYTES_MAX + 64 * KIB
"""One message."""

RAFT_UNCOMMITTED_ENTRIES_MAX: Final = 512
"""Entries of a leader that no majority has yet; past it, it takes no more."""

RAFT_UNCOMMITTED_BYTES_MAX: Final = 16 * MIB
"""Payloads of these."""

RAFT_TRAILING_ENTRIES_MAX: Final = 256
"""Entries before a snapshot that are kept for those who lag a little."""

RAFT_TRAILING_BYTES_MAX: Final = 8 * MIB
"""Payloads of these."""

RAFT_FORCED_TERMS: Final = 1 << 20
"""By how much forcing a group's voters raises its term: over all that the lost machines can have reached."""

assert 2 * RAFT_HEARTBEAT_MS < RAFT_ELECTION_MS
assert 2 * STATEMENT_BYTES_MAX <= RAFT_ENTRY_BYTES_MAX <= RAFT_APPEND_BYTES_MAX < RAFT_MESSAGE_BYTES_MAX
assert PEER_MESSAGE_BYTES_MAX[0] > RAFT_MESSAGE_BYTES_MAX
assert RAFT_ENTRY_BYTES_MAX <= RAFT_UNCOMMITTED_BYTES_MAX

# --- Gossip ----------------------------------------------------------------------------------------------------

GOSSIP_ROUND_MS: Final = 1_000
"""From one round of gossip to the next."""

GOSSIP_BEAT_MS: Final = 50
"""Unit in which a heartbeat says how long its process has run."""

GOSSIP_PEERS_MAX: Final = 3
"""Live peers that a node gossips with in one round."""

GOSSIP_ENTRIES_PER_ROUND: Final = 600
"""Digest entries that a node's own exchanges of one round should not exceed: a large ring gossips with fewer peers."""

GOSSIP_PROBES_PER_ROUND: Final = 8
"""Nodes that are DOWN which are asked in one round whether they are back; all of them in turn."""

GOSSIP_DOUBTED_PER_ROUND: Final = 1_000
"""Silent or unreachable peers that are still UP which are asked in one round whether they live."""

GOSSIP_BURST_MAX: Final = 100
"""Peers that a node speaks to at once when it starts, stops, or comes back from a pause."""

GOSSIP_DIGEST_NODES_MAX: Final = 1_500
"""Nodes in one digest; a larger ring lists a part of itself each time."""

GOSSIP_DELTA_BYTES_MAX: Final = 32 * KIB
"""What nodes say of themselves, in one message; the rest follows in the next exchange."""

GOSSIP_STATE_BYTES_MAX: Final = 4 * KIB
"""What one node says of itself, encoded."""

GOSSIP_FIELDS_MAX: Final = 32
"""Fields of what one node says of itself."""

GOSSIP_NAME_LENGTH_MAX: Final = 32
"""Characters of a field's name."""

GOSSIP_TEXT_LENGTH_MAX: Final = 256
"""Characters of a field that is text."""

GOSSIP_BODY_BYTES_MAX: Final = 128 * KIB
"""Body of one gossip message."""

GOSSIP_NUMBER_MAX: Final = 1 << 48
"""Generations, beats and versions."""

GOSSIP_LEAP_MAX: Final = 1 << 32
"""Beats or versions that a node can be ahead of what is known of it; a greater leap is a lie."""

GENERATION_AHEAD_SECONDS_MAX: Final = 86_400
"""A generation (seconds since the epoch) that is this far in the future is refused."""

PHI_DOWN: Final = 8.0
"""Suspicion at which a node is DOWN: the chance of a mistake is one in 10^8; Cassandra's ``phi_convict_threshold``."""

PHI_SUSPECT: Final = 3.0
"""Suspicion at which a node is asked whether it lives: before it is DOWN there is a round in which it can answer."""

PHI_MAX: Final = 100.0
"""Suspicion is not told apart beyond this."""

PHI_SILENCES_MAX: Final = 64
"""Silences between heartbeats that are remembered of each node."""

PHI_DEVIATION_MS_MIN: Final = 150
"""Heartbeats are never taken to be more regular than this: a busy machine delays them."""

LOCAL_PAUSE_ROUNDS: Final = 2
"""Rounds without an event after which this process itself was paused."""

LOCAL_GRACE_ROUNDS: Final = 10
"""After a pause nobody is held to be DOWN for a round; not twice within this: a slow node must see deaths, too."""

CLOCK_SAMPLES_MAX: Final = 8
"""Round trips to a peer that its clock's offset is chosen from; NTP's clock filter has as many."""

CLOCK_SKEW_WARNING_MS: Final = 500
"""Offset between two nodes' clocks that is warned about; hybrid logical clocks follow a peer no further."""

CLOCK_SAMPLE_MS_MAX: Final = 60_000
"""Older measurements of a clock's offset tell nothing: clocks drift."""

CLOCK_PING_MS: Final = 5_000
"""Each peer's clock is asked for this often; every round until CLOCK_SAMPLES_MAX answers are there."""

CLOCK_PINGS_PER_ROUND: Final = 8
"""Peers whose clocks are asked for in one round."""

ROUND_TRIPS_MAX: Final = 64
"""Round trips to a peer that percentiles are taken from."""

assert GOSSIP_DIGEST_NODES_MAX * 2 * 32 + GOSSIP_DELTA_BYTES_MAX < GOSSIP_BODY_BYTES_MAX
assert 2 * GOSSIP_STATE_BYTES_MAX <= GOSSIP_DELTA_BYTES_MAX
assert CLOCK_PING_MS * CLOCK_SAMPLES_MAX <= CLOCK_SAMPLE_MS_MAX

# --- Simulator -------------------------------------------------------------------------------------------------

SIM_WARM_KEYS_MAX: Final = 1_024
"""Keys that a simulated store has in memory; others may be answered LATER."""

SIM_ABSENT_KEYS_MAX: Final = 16_384
"""Keys of which a simulated store remembers that they aren't there: more than any one request asks for at once."""

SIM_STORY_LINES_MAX: Final = 100_000
"""The last lines of a story that are kept."""

# --- Metadata log ------------------------------------------------------------------------------------------------

MEMBERS_MAX: Final = 1_000
"""Members of a cluster."""

REMOVED_HOSTS_MAX: Final = 10_000
"""Host ids of removed members that are remembered; the oldest is forgotten."""

METADATA_RECENT_MAX: Final = 1_024
"""Proposals whose outcome the log remembers, so that one that is sent again is carried out once."""

METADATA_VIEW_BYTES_MAX: Final = 256 * MIB
"""A view as bytes, before it is deflated to what RAFT_SNAPSHOT_BYTES_MAX allows."""

METADATA_SUBMISSIONS_MAX: Final = 256
"""Changes that wait on one node to be carried out; past it, clients are told OVERLOADED."""

METADATA_WAITERS_MAX: Final = 4_096
"""Peers' requests that wait on one node for an entry to be applied."""

METADATA_SUBMIT_MS: Final = 1_800
"""A change that no majority has confirmed by then has failed, or is in doubt. Below the two seconds promised."""

METADATA_NO_MAJORITY_MS: Final = 400
"""A change fails this early if there is no leader and the failure detector knows no majority that could elect one."""

METADATA_UNKNOWN_MS: Final = 3_000
"""For so long after its start a node takes the others for alive until it hears more."""

METADATA_RETRY_MS: Final = 250
"""A proposal that nobody answered is sent again after this, to another if need be."""

METADATA_REDIRECTS_MAX: Final = 3
"""How often a proposal follows what nodes say of who leads before it waits for METADATA_RETRY_MS."""

METADATA_SPREAD_MS: Final = 10_000
"""How long a change that was carried out is waited for on the other live nodes."""

METADATA_SPREAD_RETRY_MS: Final = 1_000
"""A node that was asked to tell when it has applied an epoch, and didn't, is asked again after this."""

METADATA_PULL_ENTRIES_MAX: Final = 256
METADATA_PULL_BYTES_MAX: Final = 4 * MIB
"""Entries in one answer to a node that lags, and their payloads, if there is more than one."""

METADATA_PULL_RETRY_MS: Final = 500
"""Entries that didn't come by then are asked for again, from another node if there is one."""

METADATA_PULL_GRACE_MS: Final = 600
"""How long a voter that hears its leader may lag before it asks others for entries: they come by themselves."""

METADATA_INQUIRY_MS: Final = 1_000
"""How long a statement that names what this node doesn't know waits for what the voters know."""

METADATA_MOVES_MS: Final = 250
"""How often the leader looks after a move."""

METADATA_TICK_MS: Final = 50
"""How often deadlines are looked at while something waits."""

METADATA_EFFECTS_MAX: Final = 4_096
"""Writes and messages of consensus that wait for the disk; past it, what peers send it is dropped."""

METADATA_RESUME_MS: Final = 500
"""Consensus that stopped because the store refused a write begins again after this."""

METADATA_ENTRIES_SHOWN_MAX: Final = 256
"""Entries that an operator can ask to see."""

VOTERS_CHECK_MS: Final = 1_000
"""How often the leader looks at whether the voters are the right ones."""

VOTER_DOWN_MS: Final = 10_000
"""A voter that has been down for so long is replaced by a live member."""

ADDRESSES_RETRY_MS: Final = 5_000
"""After which a node that has moved tells the cluster once more where it is, if it couldn't."""

JOIN_RETRY_MS: Final = 500
"""A node that wants to join and got no answer asks the next seed after this."""

JOIN_MS_MAX: Final = 60_000
"""A node that hasn't joined by then gives up."""

RECOVERY_EPOCHS: Final = 1 << 20
"""By how much giving up a lost majority raises the epoch: over all that the lost nodes can have applied."""

assert METADATA_TICK_MS <= METADATA_RETRY_MS < METADATA_NO_MAJORITY_MS < METADATA_SUBMIT_MS
assert 2 * RAFT_UNCOMMITTED_ENTRIES_MAX <= METADATA_RECENT_MAX
assert METADATA_PULL_BYTES_MAX <= RAFT_MESSAGE_BYTES_MAX
assert METADATA_PULL_GRACE_MS > 2 * RAFT_HEARTBEAT_MS


# --- Processes of one machine --------------------------------------------------------------------------------------

CORES_MAX: Final = 64
"""Of ``ouro serve --cores``. The default ports of peers and of the admin API are 70 apart, and each core takes one more
of both."""

# --- Restoring -------------------------------------------------------------------------------------------------

RESTORE_UPLOAD_BYTES_MAX: Final = 20 * MIB
"""Body of one request by which rows, or a keyspace, come into a running node."""

RESTORE_UPLOADS_MAX: Final = 4
"""Such requests of one node at a time; one more is told to come again."""

RESTORE_UPLOAD_SECONDS_MAX: Final = 30
"""From the head of such a request to the end of its body."""

RESTORE_WRITES_IN_FLIGHT_MAX: Final = 256
"""Mutations of one request that wait for their replicas."""

RESTORE_PASS_BYTES: Final = 64 * KIB
"""Mutations of one request after which a node lets its other work go on; one is always carried out."""

RESTORE_BATCH_BYTES: Final = 256 * KIB
"""Mutations of one request, if there is more than one."""

RESTORE_MUTATION_BYTES: Final = 64 * KIB
"""Records of one mutation, if there is more than one."""

RESTORE_MUTATION_RECORDS: Final = 256
"""Records of one mutation."""

RESTORE_RECORD_BYTES: Final = 4 * MIB
"""A row with more is taken apart, so that no part holds more than this and one cell."""

RESTORE_BATCHES_WAITING_MAX: Final = 8
"""Batches that have been read from a snapshot and wait for someone to send them."""

assert RESTORE_MUTATION_BYTES <= RESTORE_BATCH_BYTES <= RESTORE_UPLOAD_BYTES_MAX
assert PEER_MESSAGE_BYTES_MAX[1] < RESTORE_UPLOAD_BYTES_MAX
assert RAFT_ENTRY_BYTES_MAX < RESTORE_UPLOAD_BYTES_MAX

# --- Replicated writes -----------------------------------------------------------------------------------------

CAS_QUEUE_MAX: Final = 1_024
"""Conditional statements about one partition that one coordinator has under way, all but one of them waiting."""

CAS_READ_BYTES_MAX: Final = 8 * MIB
CAS_READ_KEYS_MAX: Final = 65_536
"""Records, and stored keys, of the rows that the conditions of one statement or batch are about; more are refused."""

HINT_BATCH_MUTATIONS_MAX: Final = 256
"""Mutations of one message of hints: the receiver applies them in one go."""

HINTS_DROPPED_AT_ONCE_MAX: Final = 1_024
"""Hints that are too old which are looked at in one go."""

HINTS_HANDED_ON_MAX: Final = 65_536
"""Hints that are handed on of which it is known who has one of his own."""

HINT_UNKEPT_BYTES_MAX: Final = 8 * MIB
"""Hints that wait in memory because the store takes no writes."""

BATCH_REPLAYS_AT_ONCE_MAX: Final = 32
"""Logged batches that a node replays at the same time."""

BATCH_LOG_GRACE_MS: Final = 60_000
"""A batch of tables that keep no tombstones is replayed all the same until it is so old."""

assert BATCH_LOG_GRACE_MS >= 4 * BATCH_LOG_REPLAY_MS
assert PEER_MESSAGE_BYTES_MAX[1] > CAS_READ_BYTES_MAX


# Rows on the move

FENCED_STAGES_MAX: Final = 8
"""Stages of moves whose ranges a replica remembers; who hasn't heard of those before is refused altogether."""

BEHIND_MS_MAX: Final = 1_000
"""How long a coordinator that was told that it is behind waits for the metadata log before it tries again anyway."""

BEHIND_TRIES_MAX: Final = 6
"""How often a request is sent, as its range moves on."""

STREAM_CHUNK_ROWS_MAX: Final = 500
STREAM_CHUNK_BYTES_MAX: Final = 128 * KIB
"""Rows, and bytes, in one message of a stream; a message ends with the row that reaches either."""

STREAMS_AT_ONCE_MAX: Final = 4
"""Ranges that a node copies at the same time, of one or of several sources."""

PACE_LATE_MS: Final = 2
"""What comes later than that when rows are copied tells that the loop or its processor is busy with other things."""

PACE_GAP_FACTOR: Final = 4
"""How many times as long the next piece of a copy then waits."""

PACE_GAP_MS_MAX: Final = 50
"""It waits no longer: a copy gets on however busy a node is."""

STREAM_STATES_MAX: Final = 1_000
"""States of conditional statements in one message of a stream."""

STREAM_RETRY_MS: Final = 500
"""A range whose source failed is asked for again after this, of another source if need be."""

STREAM_TIMEOUT_MS: Final = 10_000
"""How long one message of a stream may take."""

MOVE_GATHER_MS: Final = 1_000
"""Nodes that wish to join within this time of each other join together."""

MOVE_DRAIN_MS: Final = 2_500
"""So long after all live nodes know of a stage the requests from before it are over."""

MOVE_HINTS_MS: Final = 30_000
"""So long at most a node that leaves is kept for the sake of hints that it hasn't delivered."""

MOVE_VOTERS_MS: Final = 10_000
"""So long at most a node that leaves is kept until another one votes in its place."""

MOVE_DOWN_MS: Final = 30_000
"""A move is undone when a node that gains ranges was down for so long while it copied, or too few sources were up."""

MOVE_CLEAN_MS: Final = 5_000
"""After a move a node keeps for so long what it has lost."""

OPERATIONS_MAX: Final = 100
"""Moves that are remembered, with that under way."""

HEALING_CHECK_MS: Final = 1_000
"""How often a node looks at those that have been down for long."""

HEALING_PLANNED_MAX: Final = 4
"""Nodes that are down, and not due, for which it is told that their rows couldn't be copied: that takes a while."""

HEALING_SETTLE_MS: Final = 30_000
"""So long nobody must have gone or come, and the leader have led, before a dead node is given up (or for as long as it
must have been down, if that is shorter): a rack that returns does so node by node.
"""

HEAL_AFTER_SECONDS_MAX: Final = 30 * 86_400
"""The longest time after which a dead node may be given up."""

REBALANCE_RATIO_MAX: Final = 1.15
"""A ring is even when nobody owns more than this times its fair share."""

REBALANCE_STEPS_MAX: Final = 32
"""Choices of tokens in which a data centre is made even, or as even as it gets."""

REBALANCE_MEMBERS_MAX: Final = 16
"""Members that get other tokens in one move at most, in each data centre."""

assert MOVE_DRAIN_MS > WRITE_TIMEOUT_MS
