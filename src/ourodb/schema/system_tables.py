"""Tables of the system keyspaces: their names, comments, keys and columns, as Apache Cassandra 5 has them.

Drivers, cqlsh and the tools around them read these by name, so nothing here may differ from what they expect. Of
``system_views`` there is what OuroDB can fill truthfully; what has no rows yet (repairs, views, ranges on the move)
is there and empty.

Source: Apache Cassandra 5.0.9, its own ``system_schema`` and ``system_virtual_schema``.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Definition(NamedTuple):
    """One table.

    Attributes:
        key: as in PRIMARY KEY.
        columns: ``name type``, separated by semicolons.
    """

    name: str
    comment: str
    key: str
    columns: str


SYSTEM: Final = (
    Definition(
        "IndexInfo",
        "built column indexes",
        "table_name, index_name",
        "table_name text; index_name text; value blob",
    ),
    Definition(
        "available_ranges",
        "available keyspace/ranges during bootstrap/replace that are ready to be served",
        "keyspace_name",
        "keyspace_name text; ranges set<blob>",
    ),
    Definition(
        "available_ranges_v2",
        "available keyspace/ranges during bootstrap/replace that are ready to be served",
        "keyspace_name",
        "keyspace_name text; full_ranges set<blob>; transient_ranges set<blob>",
    ),
    Definition(
        "batches",
        "batches awaiting replay",
        "id",
        "id timeuuid; mutations list<blob>; version int",
    ),
    Definition(
        "built_views",
        "built views",
        "keyspace_name, view_name",
        "keyspace_name text; view_name text; status_replicated boolean",
    ),
    Definition(
        "compaction_history",
        "week-long compaction history",
        "id",
        "id timeuuid; bytes_in bigint; bytes_out bigint; columnfamily_name text; "
        "compacted_at timestamp; compaction_properties frozen<map<text, text>>; keyspace_name text; "
        "rows_merged map<int, bigint>",
    ),
    Definition(
        "local",
        "information about the local node",
        "key",
        "key text; bootstrapped text; broadcast_address inet; broadcast_port int; cluster_name text; "
        "cql_version text; data_center text; gossip_generation int; host_id uuid; listen_address inet; "
        "listen_port int; native_protocol_version text; partitioner text; rack text; "
        "release_version text; rpc_address inet; rpc_port int; schema_version uuid; tokens set<text>; "
        "truncated_at map<uuid, blob>",
    ),
    Definition(
        "paxos",
        "in-progress paxos proposals",
        "row_key, cf_id",
        "row_key blob; cf_id uuid; in_progress_ballot timeuuid; in_progress_read_ballot timeuuid; "
        "most_recent_commit blob; most_recent_commit_at timeuuid; most_recent_commit_version int; "
        "proposal blob; proposal_ballot timeuuid; proposal_version int",
    ),
    Definition(
        "paxos_repair_history",
        "paxos repair history",
        "keyspace_name, table_name",
        "keyspace_name text; table_name text; points frozen<list<frozen<tuple<blob, timeuuid>>>>",
    ),
    Definition(
        "peer_events",
        "events related to peers",
        "peer",
        "peer inet; hints_dropped map<timeuuid, int>",
    ),
    Definition(
        "peer_events_v2",
        "events related to peers",
        "peer, peer_port",
        "peer inet; peer_port int; hints_dropped map<timeuuid, int>",
    ),
    Definition(
        "peers",
        "information about known peers in the cluster",
        "peer",
        "peer inet; data_center text; host_id uuid; preferred_ip inet; rack text; "
        "release_version text; rpc_address inet; schema_version uuid; tokens set<text>",
    ),
    Definition(
        "peers_v2",
        "information about known peers in the cluster",
        "peer, peer_port",
        "peer inet; peer_port int; data_center text; host_id uuid; native_address inet; "
        "native_port int; preferred_ip inet; preferred_port int; rack text; release_version text; "
        "schema_version uuid; tokens set<text>",
    ),
    Definition(
        "prepared_statements",
        "prepared statements",
        "prepared_id",
        "prepared_id blob; logged_keyspace text; query_string text",
    ),
    Definition(
        "repairs",
        "repairs",
        "parent_id",
        "parent_id timeuuid; cfids set<uuid>; coordinator inet; coordinator_port int; "
        "last_update timestamp; participants set<inet>; participants_wp set<text>; ranges set<blob>; "
        "repaired_at timestamp; started_at timestamp; state int",
    ),
    Definition(
        "size_estimates",
        "per-table primary range size estimates, table is deprecated in favor of table_estimates",
        "keyspace_name, table_name, range_start, range_end",
        "keyspace_name text; table_name text; range_start text; range_end text; "
        "mean_partition_size bigint; partitions_count bigint",
    ),
    Definition(
        "sstable_activity",
        "historic sstable read rates",
        "(keyspace_name, columnfamily_name, generation)",
        "keyspace_name text; columnfamily_name text; generation int; rate_120m double; rate_15m double",
    ),
    Definition(
        "sstable_activity_v2",
        "historic sstable read rates",
        "(keyspace_name, table_name, id)",
        "keyspace_name text; table_name text; id text; rate_120m double; rate_15m double",
    ),
    Definition(
        "table_estimates",
        "per-table range size estimates",
        "keyspace_name, table_name, range_type, range_start, range_end",
        "keyspace_name text; table_name text; range_type text; range_start text; range_end text; "
        "mean_partition_size bigint; partitions_count bigint",
    ),
    Definition(
        "top_partitions",
        "Stores the top partitions",
        "keyspace_name, table_name, top_type",
        "keyspace_name text; table_name text; top_type text; last_update timestamp; "
        "top frozen<list<frozen<tuple<text, bigint>>>>",
    ),
    Definition(
        "transferred_ranges",
        "record of transferred ranges for streaming operation",
        "(operation, keyspace_name), peer",
        "operation text; keyspace_name text; peer inet; ranges set<blob>",
    ),
    Definition(
        "transferred_ranges_v2",
        "record of transferred ranges for streaming operation",
        "(operation, keyspace_name), peer, peer_port",
        "operation text; keyspace_name text; peer inet; peer_port int; ranges set<blob>",
    ),
    Definition(
        "view_builds_in_progress",
        "views builds current progress",
        "keyspace_name, view_name, start_token, end_token",
        "keyspace_name text; view_name text; start_token text; end_token text; keys_built bigint; "
        "last_token text",
    ),
)


SYSTEM_SCHEMA: Final = (
    Definition(
        "aggregates",
        "user defined aggregate definitions",
        "keyspace_name, aggregate_name, argument_types",
        "keyspace_name text; aggregate_name text; argument_types frozen<list<text>>; final_func text; "
        "initcond text; return_type text; state_func text; state_type text",
    ),
    Definition(
        "column_masks",
        "column dynamic data masks",
        "keyspace_name, table_name, column_name",
        "keyspace_name text; table_name text; column_name text; "
        "function_argument_nulls frozen<list<boolean>>; function_argument_types frozen<list<text>>; "
        "function_argument_values frozen<list<text>>; function_keyspace text; function_name text",
    ),
    Definition(
        "columns",
        "column definitions",
        "keyspace_name, table_name, column_name",
        "keyspace_name text; table_name text; column_name text; clustering_order text; "
        "column_name_bytes blob; kind text; position int; type text",
    ),
    Definition(
        "dropped_columns",
        "dropped column registry",
        "keyspace_name, table_name, column_name",
        "keyspace_name text; table_name text; column_name text; dropped_time timestamp; kind text; type text",
    ),
    Definition(
        "functions",
        "user defined function definitions",
        "keyspace_name, function_name, argument_types",
        "keyspace_name text; function_name text; argument_types frozen<list<text>>; "
        "argument_names frozen<list<text>>; body text; called_on_null_input boolean; language text; "
        "return_type text",
    ),
    Definition(
        "indexes",
        "secondary index definitions",
        "keyspace_name, table_name, index_name",
        "keyspace_name text; table_name text; index_name text; kind text; options frozen<map<text, text>>",
    ),
    Definition(
        "keyspaces",
        "keyspace definitions",
        "keyspace_name",
        "keyspace_name text; durable_writes boolean; replication frozen<map<text, text>>",
    ),
    Definition(
        "tables",
        "table definitions",
        "keyspace_name, table_name",
        "keyspace_name text; table_name text; additional_write_policy text; "
        "allow_auto_snapshot boolean; bloom_filter_fp_chance double; caching frozen<map<text, text>>; "
        "cdc boolean; comment text; compaction frozen<map<text, text>>; "
        "compression frozen<map<text, text>>; crc_check_chance double; "
        "dclocal_read_repair_chance double; default_time_to_live int; "
        "extensions frozen<map<text, blob>>; flags frozen<set<text>>; gc_grace_seconds int; id uuid; "
        "incremental_backups boolean; max_index_interval int; memtable text; "
        "memtable_flush_period_in_ms int; min_index_interval int; read_repair text; "
        "read_repair_chance double; speculative_retry text",
    ),
    Definition(
        "triggers",
        "trigger definitions",
        "keyspace_name, table_name, trigger_name",
        "keyspace_name text; table_name text; trigger_name text; options frozen<map<text, text>>",
    ),
    Definition(
        "types",
        "user defined type definitions",
        "keyspace_name, type_name",
        "keyspace_name text; type_name text; field_names frozen<list<text>>; field_types frozen<list<text>>",
    ),
    Definition(
        "views",
        "view definitions",
        "keyspace_name, view_name",
        "keyspace_name text; view_name text; additional_write_policy text; "
        "allow_auto_snapshot boolean; base_table_id uuid; base_table_name text; "
        "bloom_filter_fp_chance double; caching frozen<map<text, text>>; cdc boolean; comment text; "
        "compaction frozen<map<text, text>>; compression frozen<map<text, text>>; "
        "crc_check_chance double; dclocal_read_repair_chance double; default_time_to_live int; "
        "extensions frozen<map<text, blob>>; gc_grace_seconds int; id uuid; "
        "include_all_columns boolean; incremental_backups boolean; max_index_interval int; "
        "memtable text; memtable_flush_period_in_ms int; min_index_interval int; read_repair text; "
        "read_repair_chance double; speculative_retry text; where_clause text",
    ),
)


SYSTEM_TRACES: Final = (
    Definition(
        "events",
        "tracing events",
        "session_id, event_id",
        "session_id uuid; event_id timeuuid; activity text; source inet; source_elapsed int; "
        "source_port int; thread text",
    ),
    Definition(
        "sessions",
        "tracing sessions",
        "session_id",
        "session_id uuid; client inet; command text; coordinator inet; coordinator_port int; "
        "duration int; parameters map<text, text>; request text; started_at timestamp",
    ),
)


SYSTEM_AUTH: Final = (
    Definition(
        "cidr_groups",
        "cidr groups to cidrs mapping",
        "cidr_group",
        "cidr_group text; cidrs frozen<set<frozen<tuple<inet, smallint>>>>",
    ),
    Definition(
        "cidr_permissions",
        "user cidr permissions",
        "role",
        "role text; cidr_groups frozen<set<text>>",
    ),
    Definition(
        "identity_to_role",
        "mtls authorized identities lookup table",
        "identity",
        "identity text; role text",
    ),
    Definition(
        "network_permissions",
        "user network permissions",
        "role",
        "role text; dcs frozen<set<text>>",
    ),
    Definition(
        "resource_role_permissons_index",
        "index of db roles with permissions granted on a resource",
        "resource, role",
        "resource text; role text",
    ),
    Definition(
        "role_members",
        "role memberships lookup table",
        "role, member",
        "role text; member text",
    ),
    Definition(
        "role_permissions",
        "permissions granted to db roles",
        "role, resource",
        "role text; resource text; permissions set<text>",
    ),
    Definition(
        "roles",
        "role definitions",
        "role",
        "role text; can_login boolean; is_superuser boolean; member_of set<text>; salted_hash text",
    ),
)


SYSTEM_DISTRIBUTED: Final = (
    Definition(
        "parent_repair_history",
        "Repair history",
        "parent_id",
        "parent_id timeuuid; columnfamily_names set<text>; exception_message text; "
        "exception_stacktrace text; finished_at timestamp; keyspace_name text; "
        "options map<text, text>; requested_ranges set<text>; started_at timestamp; "
        "successful_ranges set<text>",
    ),
    Definition(
        "partition_denylist",
        "Partition keys which have been denied access",
        "(ks_name, table_name), key",
        "ks_name text; table_name text; key blob",
    ),
    Definition(
        "repair_history",
        "Repair history",
        "(keyspace_name, columnfamily_name), id",
        "keyspace_name text; columnfamily_name text; id timeuuid; coordinator inet; "
        "coordinator_port int; exception_message text; exception_stacktrace text; "
        "finished_at timestamp; parent_id timeuuid; participants set<inet>; participants_v2 set<text>; "
        "range_begin text; range_end text; started_at timestamp; status text",
    ),
    Definition(
        "view_build_status",
        "Materialized View build status",
        "(keyspace_name, view_name), host_id",
        "keyspace_name text; view_name text; host_id uuid; status text",
    ),
)


SYSTEM_VIRTUAL_SCHEMA: Final = (
    Definition(
        "columns",
        "virtual column definitions",
        "keyspace_name, table_name, column_name",
        "keyspace_name text; table_name text; column_name text; clustering_order text; "
        "column_name_bytes blob; kind text; position int; type text",
    ),
    Definition(
        "keyspaces",
        "virtual keyspace definitions",
        "keyspace_name",
        "keyspace_name text",
    ),
    Definition(
        "tables",
        "virtual table definitions",
        "keyspace_name, table_name",
        "keyspace_name text; table_name text; comment text",
    ),
)


SYSTEM_VIEWS: Final = (
    Definition(
        "caches",
        "system caches",
        "name",
        "name text; capacity_bytes bigint; entry_count int; hit_count bigint; hit_ratio double; "
        "recent_hit_rate_per_second bigint; recent_request_rate_per_second bigint; "
        "request_count bigint; size_bytes bigint",
    ),
    Definition(
        "clients",
        "currently connected clients",
        "address, port",
        "address inet; port int; client_options frozen<map<text, text>>; connection_stage text; "
        "driver_name text; driver_version text; hostname text; keyspace_name text; "
        "protocol_version int; request_count bigint; ssl_cipher_suite text; ssl_enabled boolean; "
        "ssl_protocol text; username text",
    ),
    Definition(
        "pending_hints",
        "Pending hints that this node has for other nodes",
        "host_id",
        "host_id uuid; address inet; dc text; files int; newest timestamp; oldest timestamp; port int; "
        "rack text; status text",
    ),
    Definition(
        "queries",
        "Lists currently running queries",
        "thread_id",
        "thread_id text; queued_micros bigint; running_micros bigint; task text",
    ),
    Definition(
        "settings",
        "current settings",
        "name",
        "name text; value text",
    ),
    Definition(
        "sstable_tasks",
        "current sstable tasks",
        "keyspace_name, table_name, task_id",
        "keyspace_name text; table_name text; task_id timeuuid; completion_ratio double; kind text; "
        "progress bigint; sstables int; target_directory text; total bigint; total_compressed bigint; "
        "unit text",
    ),
    Definition(
        "system_properties",
        "Cassandra relevant system properties",
        "name",
        "name text; value text",
    ),
    Definition(
        "thread_pools",
        "",
        "name",
        "name text; active_tasks int; active_tasks_limit int; blocked_tasks bigint; "
        "blocked_tasks_all_time bigint; completed_tasks bigint; pending_tasks int",
    ),
)
