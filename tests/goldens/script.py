"""Golden scripts: CQL statements in, a stable text out.

A script holds statements, each ended by a ``;`` at the end of a line (a BATCH by its ``APPLY BATCH;``, a line ``----``
ends anything). Comment lines before a statement may direct how it is run:

===========================  =============================================================================
``-- bind: 1, 'a', None``    prepare it and execute it with these Python values; a dict alone binds by name (a map
                             alone needs a comma behind it), ``UNSET`` leaves alone, ``raw(b'..')`` puts these
                             bytes on the wire
``-- page: 2``               fetch pages of two rows
``-- mask: id, uuid(.*)``    columns (regular expressions) whose values differ from run to run; shown as ``*``
``-- sleep: 2``              wait so many seconds first, for TTLs
``-- unordered``             the order of rows is free; they are sorted
``-- class``                 of an error only the class counts, as its text follows Java's hashing or its parser
``-- differs: why``          OuroDB answers differently on purpose; the answer isn't compared
===========================  =============================================================================

Other comments are for the reader. Every script has a keyspace of its own, named after the file, and starts with it
empty and in use. Statements go through a session of the stock driver. Values are decoded here from the wire's bytes,
so that the order of elements, empty values and nulls inside of values can be seen.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import re
import struct
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from cassandra import DriverException, OperationTimedOut, cqltypes
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable, Session
from cassandra.marshal import uvint_unpack, vints_unpack
from cassandra.policies import FallthroughRetryPolicy, RoundRobinPolicy
from cassandra.protocol import (
    RESULT_KIND_ROWS,
    RESULT_KIND_SCHEMA_CHANGE,
    RESULT_KIND_SET_KEYSPACE,
    ErrorMessage,
    ResultMessage,
    _ProtocolHandler,
    error_classes,
)
from cassandra.query import UNSET_VALUE, BoundStatement, PreparedStatement, SimpleStatement

DIRECTIVE = re.compile(r"--\s*(bind|page|mask|sleep|unordered|class|differs)\b:?\s*(.*)")
KEYSPACE_OPTIONS = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
REQUEST_TIMEOUT_S = 30.0
PROTOCOL_VERSION = 5


@dataclass(slots=True)
class Statement:
    """One statement of a script, with its directives."""

    text: str
    directives: dict[str, str] = field(default_factory=dict)


def parse(script: str) -> list[Statement]:
    """Cut a script into statements."""
    statements: list[Statement] = []
    lines: list[str] = []
    directives: dict[str, str] = {}

    def end() -> None:
        nonlocal lines, directives
        if lines:
            statements.append(Statement("\n".join(lines), directives))
        lines, directives = [], {}

    for line in script.splitlines():
        bare = line.strip()
        if bare == "----":
            end()
        elif not lines and (not bare or bare.startswith("--")):
            if found := DIRECTIVE.match(bare):
                directives[found[1]] = found[2]
        else:
            lines.append(line.rstrip())
            in_batch = re.match(r"\s*BEGIN\b", lines[0], re.IGNORECASE)
            if bare.endswith(";") and (not in_batch or re.search(r"APPLY\s+BATCH\s*;$", bare, re.IGNORECASE)):
                lines[-1] = lines[-1][:-1]
                end()
    end()
    return statements


# --- values ----------------------------------------------------------------------------------------------------


def shown(kind: Any, value: bytes | None) -> str:
    """A value's bytes as text that reads like CQL."""
    if value is None:
        return "null"
    name = kind.typename
    if not value and name not in ("text", "varchar", "ascii", "blob"):
        return "empty"
    if name in ("list", "set"):
        return _bracketed(
            "[]" if name == "list" else "{}", (shown(kind.subtypes[0], v) for v in _elements(value))
        )
    if name == "map":
        parts = _elements(value, 2)
        pairs = zip(parts[::2], parts[1::2], strict=True)
        return _bracketed(
            "{}", (f"{shown(kind.subtypes[0], k)}: {shown(kind.subtypes[1], v)}" for k, v in pairs)
        )
    if issubclass(kind, cqltypes.UserType):
        return _bracketed(
            "{}",
            (
                f"{n}: {shown(t, v)}"
                for n, t, v in zip(kind.fieldnames, kind.subtypes, _fields(value), strict=False)
            ),
        )
    if issubclass(kind, cqltypes.TupleType):
        return _bracketed("()", (shown(t, v) for t, v in zip(kind.subtypes, _fields(value), strict=False)))
    if issubclass(kind, cqltypes.VectorType):
        return _bracketed("[]", (shown(kind.subtype, v) for v in _vector(kind, value)))
    show = _scalars.get(name)
    return show(value) if show else f"{name}:0x{value.hex()}"


def _bracketed(brackets: str, parts: Iterable[str]) -> str:
    return brackets[0] + ", ".join(parts) + brackets[1]


def _elements(value: bytes, each: int = 1) -> list[bytes | None]:
    (count,) = struct.unpack_from(">i", value)
    return _fields(value[4:], count * each)


def _fields(value: bytes, count: int | None = None) -> list[bytes | None]:
    found: list[bytes | None] = []
    at = 0
    while at < len(value) and count != len(found):
        (size,) = struct.unpack_from(">i", value, at)
        at += 4
        found.append(value[at : at + size] if size >= 0 else None)
        at += max(size, 0)
    return found


def _vector(kind: Any, value: bytes) -> list[bytes]:
    size = kind.subtype.serial_size()
    if size is not None:
        return [value[at : at + size] for at in range(0, len(value), size)]
    found = []
    at = 0
    while at < len(value):
        length, read = uvint_unpack(value[at:])
        found.append(value[at + read : at + read + length])
        at += read + length
    return found


def _text(value: bytes) -> str:
    text = value.decode("utf-8", "backslashreplace").replace("'", "''")
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return "'" + re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\x{ord(found[0]):02x}", text) + "'"


def _timestamp(value: bytes) -> str:
    millis = int.from_bytes(value, "big", signed=True)
    try:
        moment = datetime(1970, 1, 1) + timedelta(milliseconds=millis)
    except OverflowError:
        return f"timestamp({millis})"
    return f"{moment:%Y-%m-%d %H:%M:%S}.{millis % 1000:03d}Z"


def _date(value: bytes) -> str:
    days = int.from_bytes(value, "big") - 2**31
    try:
        return (date(1970, 1, 1) + timedelta(days=days)).isoformat()
    except OverflowError:
        return f"date({days})"


def _time(value: bytes) -> str:
    seconds, nanos = divmod(int.from_bytes(value, "big"), 1_000_000_000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{nanos:09d}"


def _duration(value: bytes) -> str:
    months, days, nanos = vints_unpack(value)
    return f"{months}mo{days}d{nanos}ns"


def _decimal(value: bytes) -> str:
    (scale,) = struct.unpack_from(">i", value)
    unscaled = int.from_bytes(value[4:], "big", signed=True)
    return str(Decimal((int(unscaled < 0), tuple(map(int, str(abs(unscaled)))), -scale)))


def _float(value: bytes) -> str:
    """The shortest decimal that gives the same 32 bits back."""
    (number,) = struct.unpack(">f", value)
    for digits in range(1, 9):
        text = f"{number:.{digits}g}"
        if struct.pack(">f", float(text)) == value:
            return text
    return f"{number:.9g}"


def _integer(value: bytes) -> str:
    return str(int.from_bytes(value, "big", signed=True))


_scalars = {
    "ascii": _text,
    "text": _text,
    "varchar": _text,
    "blob": lambda value: "0x" + value.hex(),
    "boolean": lambda value: "true" if value != b"\0" else "false",
    "tinyint": _integer,
    "smallint": _integer,
    "int": _integer,
    "bigint": _integer,
    "counter": _integer,
    "varint": _integer,
    "decimal": _decimal,
    "float": _float,
    "double": lambda value: repr(struct.unpack(">d", value)[0]),
    "uuid": lambda value: str(uuid.UUID(bytes=value)),
    "timeuuid": lambda value: str(uuid.UUID(bytes=value)),
    "inet": lambda value: str(ipaddress.ip_address(value)),
    "timestamp": _timestamp,
    "date": _date,
    "time": _time,
    "duration": _duration,
}


# --- running ---------------------------------------------------------------------------------------------------


class _Rows(ResultMessage):
    """A RESULT that leaves values as bytes. (Without the underscore the driver would take it for its own.)"""

    def recv_results_rows(
        self, f: Any, protocol_version: int, user_type_map: Any, result_metadata: Any, *_: Any
    ) -> None:
        self.recv_results_metadata(f, user_type_map)
        columns = self.column_metadata or result_metadata
        (count,) = struct.unpack(">i", f.read(4))
        self.parsed_rows = [self.recv_row(f, len(columns)) for _ in range(count)]
        self.column_names = [column[2] for column in columns]
        self.column_types = [column[3] for column in columns]


class _Error:
    """Lets the ERROR's code, text and fields through, where the driver would make its own text of them."""

    @classmethod
    def recv_body(cls, f: Any, protocol_version: int, *rest: Any) -> ErrorMessage:
        error = ErrorMessage.recv_body(f, protocol_version, *rest)
        made = error.to_exception

        def to_exception() -> Exception:
            exception: Exception = made()
            exception.cql_error = error  # type: ignore[attr-defined]
            return exception

        error.to_exception = to_exception
        return error


class Runner:
    """A session with a server, that answers statements with text."""

    def __init__(self, host: str, port: int, keyspace: str) -> None:
        logging.getLogger("cassandra").setLevel(logging.CRITICAL)
        profile = ExecutionProfile(
            load_balancing_policy=RoundRobinPolicy(),
            retry_policy=FallthroughRetryPolicy(),
            request_timeout=REQUEST_TIMEOUT_S,
            row_factory=lambda names, rows: rows,
        )
        self._cluster = Cluster(
            [host],
            port=port,
            protocol_version=PROTOCOL_VERSION,
            execution_profiles={EXEC_PROFILE_DEFAULT: profile},
            schema_metadata_enabled=False,
            token_metadata_enabled=False,
            connect_timeout=REQUEST_TIMEOUT_S,
        )
        self._last: list[ResultMessage] = []
        last = self._last

        class Handler(_ProtocolHandler):
            message_types_by_opcode = _ProtocolHandler.message_types_by_opcode | {
                ErrorMessage.opcode: _Error,
                ResultMessage.opcode: _Rows,
            }

            @classmethod
            def decode_message(cls, *args: Any) -> Any:
                message = super().decode_message(*args)
                last[:] = [message]
                return message

        self._session: Session = self._cluster.connect()
        self._session.client_protocol_handler = Handler
        self.keyspace = keyspace
        self.execute(f"DROP KEYSPACE IF EXISTS {keyspace}")
        self.execute(f"CREATE KEYSPACE {keyspace} WITH replication = {KEYSPACE_OPTIONS}")
        self.execute(f"USE {keyspace}")

    def close(self) -> None:
        with contextlib.suppress(DriverException, NoHostAvailable):
            self.execute(f"DROP KEYSPACE IF EXISTS {self.keyspace}")
        self._cluster.shutdown()

    def execute(self, text: str) -> Any:
        return self._session.execute(SimpleStatement(text, fetch_size=None))

    def answer(self, statement: Statement) -> str:
        """Run a statement; its whole answer as lines of text."""
        directives = statement.directives
        if "sleep" in directives:
            time.sleep(float(directives["sleep"]))
        lines: list[str] = []
        try:
            self._run(statement, lines)
        except (OperationTimedOut, NoHostAvailable) as problem:
            lines.append(f"no answer: {type(problem).__name__} {problem}")
        except Exception as problem:
            error = getattr(problem, "cql_error", None)
            line = _error_line(error) if error else _error_line_from(problem)
            lines.append(line.partition(":")[0] if "class" in directives else line)
        return "\n".join(lines)

    def _run(self, statement: Statement, lines: list[str]) -> None:
        directives = statement.directives
        fetch_size = int(directives["page"]) if "page" in directives else None
        if "bind" in directives:
            prepared = self._session.prepare(statement.text)
            lines.append(_prepared_line(prepared))
            query = _bound(prepared, directives["bind"].strip())
            query.fetch_size = fetch_size
        else:
            query = SimpleStatement(statement.text, fetch_size=fetch_size)
        paging_state = None
        rows_total = 0
        while True:
            result = self._session.execute(query, paging_state=paging_state)
            message = self._last[0]
            first = paging_state is None
            if message.kind == RESULT_KIND_ROWS:
                if not first:
                    # Whether a last, empty page follows a full one is the server's own affair.
                    if not message.parsed_rows:
                        break
                    lines.append("-- next page")
                rows_total += _show_rows(message, directives, lines, with_header=first)
            elif message.kind == RESULT_KIND_SCHEMA_CHANGE:
                change = message.schema_change_event
                what = (change.get(key) for key in ("keyspace", "table", "type", "function", "aggregate"))
                name = ".".join(str(part) for part in what if part)
                lines.append(f"schema change: {change['change_type']} {change['target_type']} {name}")
            elif message.kind == RESULT_KIND_SET_KEYSPACE:
                lines.append(f"keyspace: {message.new_keyspace}")
            else:
                lines.append("ok")
            lines.extend(f"warning: {warning}" for warning in message.warnings or ())
            paging_state = result.paging_state
            if paging_state is None:
                break
        if message.kind == RESULT_KIND_ROWS:
            lines.append(f"({rows_total} row{'s' * (rows_total != 1)})")


def _bound(prepared: PreparedStatement, values: str) -> BoundStatement:
    """Like ``prepared.bind``, but it leaves all refusing to the server."""

    class Raw(bytes):
        pass

    names = {"UNSET": UNSET_VALUE, "raw": Raw, "UUID": uuid.UUID, "Decimal": Decimal, "datetime": datetime}
    given = eval(values, names) if values else ()
    columns = prepared.column_metadata
    if isinstance(given, dict):
        given = [given.get(column.name, UNSET_VALUE) for column in columns]
    elif not isinstance(given, tuple):
        given = (given,)
    bound = BoundStatement(prepared)
    for index, value in enumerate(given):
        as_is = value is None or value is UNSET_VALUE or isinstance(value, Raw)
        bound.values.append(value if as_is else columns[index].type.serialize(value, PROTOCOL_VERSION))
    return bound


def _prepared_line(prepared: Any) -> str:
    variables = ", ".join(f"{c.name} {c.type.cql_parameterized_type()}" for c in prepared.column_metadata)
    key = f" partition key {prepared.routing_key_indexes}" if prepared.routing_key_indexes else ""
    return f"prepared: ({variables}){key}"


def _show_rows(message: Any, directives: dict[str, str], lines: list[str], with_header: bool) -> int:
    names, kinds = message.column_names, message.column_types
    masks = [re.compile(mask.strip()) for mask in directives.get("mask", "").split(",") if mask.strip()]
    masked = [any(mask.fullmatch(name) for mask in masks) for name in names]
    if with_header:
        lines.append(" | ".join(f"{n} {_type_shown(k)}" for n, k in zip(names, kinds, strict=True)))
    shown_rows = [
        " | ".join("*" if hide else shown(k, v) for k, v, hide in zip(kinds, row, masked, strict=True))
        for row in message.parsed_rows
    ]
    lines.extend(sorted(shown_rows) if "unordered" in directives else shown_rows)
    return len(shown_rows)


def _type_shown(kind: Any) -> str:
    text: str = kind.cql_parameterized_type()
    return text.replace("org.apache.cassandra.db.marshal.VectorType", "vector")


def _error_line(error: Any) -> str:
    fields = ""
    if error.info:
        shown_fields = {k: v for k, v in error.info.items() if k not in ("write_type", "consistency")}
        fields = " " + " ".join(f"{key}={value}" for key, value in shown_fields.items())
    text = str(error.message).replace("\n", "\\n")
    return f"error {error.code:04x} {type(error).__name__}{fields}: {text}"


def _error_line_from(problem: Exception) -> str:
    """What PREPARE is refused with comes without the message; only its text is left."""
    found = re.search(r'code=([0-9a-f]{4}) \[[^]]*\] message="(.*)"', str(problem), re.DOTALL)
    if not found:
        return f"driver error: {type(problem).__name__}: {problem}"
    kind = error_classes[int(found[1], 16)].__name__
    return f"error {found[1]} {kind}: {found[2]}".replace("\n", "\\n")


def keyspace_of(path: Path) -> str:
    return "g_" + path.stem


def run(path: Path, host: str, port: int) -> list[tuple[Statement, str]]:
    """Run a script against a server; each statement with its answer."""
    runner = Runner(host, port, keyspace_of(path))
    try:
        return [(statement, runner.answer(statement)) for statement in parse(path.read_text())]
    finally:
        runner.close()


def rendered(answers: list[tuple[Statement, str]]) -> str:
    """The form of an ``.out`` file: each statement behind ``> ``, and its answer."""
    blocks = []
    for statement, answer in answers:
        lines = statement.text.splitlines()
        directed = [
            f"-- {name}: {value}" for name, value in statement.directives.items() if name != "differs"
        ]
        blocks.append("\n".join(["> " + line for line in directed + lines] + [answer]))
    return "\n\n".join(blocks) + "\n"


def recorded(path: Path) -> list[str]:
    """The answers in an ``.out`` file, in the order of the script."""
    blocks = path.read_text().rstrip("\n").split("\n\n")
    return ["\n".join(line for line in block.splitlines() if not line.startswith("> ")) for block in blocks]
