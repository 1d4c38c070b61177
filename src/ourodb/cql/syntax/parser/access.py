"""Roles, users, permissions, identities."""

from __future__ import annotations

from dataclasses import replace

from ourodb.cql.syntax.ast import (
    AddIdentity,
    AlterRole,
    CreateRole,
    DataResource,
    DropIdentity,
    DropRole,
    FunctionResource,
    GrantPermissions,
    GrantRole,
    JmxResource,
    ListPermissions,
    ListRoles,
    ListSuperusers,
    ListUsers,
    Resource,
    RevokePermissions,
    RevokeRole,
    RoleOptions,
    RoleResource,
)
from ourodb.cql.syntax.lexer import BOOLEAN, IDENT, NAME_TAGS, QUOTED_NAME, STRING
from ourodb.cql.syntax.parser.cursor import (
    Cursor,
    function_name,
    if_exists,
    if_not_exists,
    keyspace_name,
    role_name,
    table_name,
)
from ourodb.cql.syntax.parser.properties import constant_map
from ourodb.cql.syntax.parser.terms import comma_separated
from ourodb.cql.syntax.parser.types import types_in_parentheses
from ourodb.errors import CqlSyntaxError

_PERMISSIONS = frozenset(
    """
    K_CREATE K_ALTER K_DROP K_SELECT K_MODIFY K_AUTHORIZE K_DESCRIBE K_EXECUTE K_UNMASK K_SELECT_MASKED
    """.split()
)


def create_role(c: Cursor) -> CreateRole:
    c.at += 1
    absent = if_not_exists(c)
    role = role_name(c)
    return CreateRole(role, _role_options(c) if c.accept("K_WITH") else RoleOptions(), absent)


def alter_role(c: Cursor) -> AlterRole:
    c.at += 1
    exists = if_exists(c)
    role = role_name(c)
    return AlterRole(role, _role_options(c) if c.accept("K_WITH") else RoleOptions(), exists)


def drop_role(c: Cursor) -> DropRole:
    c.at += 1
    exists = if_exists(c)
    return DropRole(role_name(c), exists)


def _role_options(c: Cursor) -> RoleOptions:
    read = _role_option(c, RoleOptions())
    while c.accept("K_AND"):
        read = _role_option(c, read)
    return _checked(read)


def _role_option(c: Cursor, read: RoleOptions) -> RoleOptions:
    if c.accept("K_GENERATED"):
        c.expect("K_PASSWORD")
        return replace(read, generated_password=True)
    if c.accept("K_PASSWORD"):
        c.expect("=")
        return replace(read, password=c.string())
    if c.accept("K_HASHED"):
        c.expect("K_PASSWORD", "=")
        return replace(read, hashed_password=c.string())
    if c.accept("K_OPTIONS"):
        c.expect("=")
        return replace(read, options=constant_map(c))
    if c.accept("K_SUPERUSER"):
        c.expect("=")
        return replace(read, superuser=_boolean(c))
    if c.accept("K_LOGIN"):
        c.expect("=")
        return replace(read, login=_boolean(c))
    if c.accept("K_ACCESS"):
        if c.accept("K_TO"):
            return replace(read, datacenters=_all_or_listed(c, "K_DATACENTERS"))
        c.expect("K_FROM")
        return replace(read, cidrs=_all_or_listed(c, "K_CIDRS"))
    raise c.no_viable()


def _checked(read: RoleOptions) -> RoleOptions:
    """At most one way of saying the password."""
    given = (
        ("password", read.password is not None),
        ("hashed password", read.hashed_password is not None),
        ("generated password", read.generated_password),
    )
    names = [way for way, is_given in given if is_given]
    if len(names) > 1:
        raise CqlSyntaxError(f"Options '{names[0]}' and '{names[1]}' are mutually exclusive")
    return read


def _boolean(c: Cursor) -> bool:
    return c.take(BOOLEAN).lower() == "true"


def _all_or_listed(c: Cursor, tag: str) -> tuple[str, ...]:
    if c.accept("K_ALL"):
        c.expect(tag)
        return ()
    c.expect(tag, "{")
    if c.tags[c.at] == "}":
        raise c.mismatched(STRING)
    return comma_separated(c, Cursor.string, "}")


def create_user(c: Cursor) -> CreateRole:
    c.at += 1
    absent = if_not_exists(c)
    user = _user_name(c)
    options = _user_options(c)
    return CreateRole(user, replace(options, login=True, superuser=bool(options.superuser)), absent)


def alter_user(c: Cursor) -> AlterRole:
    c.at += 1
    exists = if_exists(c)
    user = _user_name(c)
    return AlterRole(user, _user_options(c), exists)


def drop_user(c: Cursor) -> DropRole:
    c.at += 1
    exists = if_exists(c)
    return DropRole(_user_name(c), exists)


def _user_options(c: Cursor) -> RoleOptions:
    """As of a role, but without ``=``."""
    read = RoleOptions()
    if c.accept("K_WITH"):
        if c.accept("K_GENERATED"):
            c.expect("K_PASSWORD")
            read = replace(read, generated_password=True)
        elif c.accept("K_HASHED"):
            c.expect("K_PASSWORD")
            read = replace(read, hashed_password=c.string())
        else:
            c.expect("K_PASSWORD")
            read = replace(read, password=c.string())
    if c.accept("K_SUPERUSER"):
        return replace(read, superuser=True)
    return replace(read, superuser=False) if c.accept("K_NOSUPERUSER") else read


def _user_name(c: Cursor) -> str:
    """A user's name keeps its case even when it is bare."""
    if c.tags[c.at] == QUOTED_NAME:
        raise CqlSyntaxError(
            "Quoted strings are are not supported for user names and USER is deprecated, please use ROLE"
        )
    return _bare_or_string(c)


def _identity(c: Cursor) -> str:
    if c.tags[c.at] == QUOTED_NAME:
        raise CqlSyntaxError("Quoted strings are are not supported for identity")
    return _bare_or_string(c)


def _bare_or_string(c: Cursor) -> str:
    if c.tags[c.at] == STRING:
        return c.string()
    if c.tags[c.at] != IDENT:
        raise c.no_viable()
    return c.take(IDENT)


def add_identity(c: Cursor) -> AddIdentity:
    c.expect("K_ADD", "K_IDENTITY")
    absent = if_not_exists(c)
    identity = _identity(c)
    c.expect("K_TO", "K_ROLE")
    return AddIdentity(identity, _identity(c), absent)


def drop_identity(c: Cursor) -> DropIdentity:
    c.at += 1
    exists = if_exists(c)
    return DropIdentity(_identity(c), exists)


def grant(c: Cursor) -> GrantPermissions | GrantRole:
    c.expect("K_GRANT")
    if not _permissions_ahead(c):
        role = role_name(c)
        c.expect("K_TO")
        return GrantRole(role, role_name(c))
    permissions = _permissions(c)
    c.expect("K_ON")
    resource = _resource(c)
    c.expect("K_TO")
    return GrantPermissions(permissions, resource, role_name(c))


def revoke(c: Cursor) -> RevokePermissions | RevokeRole:
    c.expect("K_REVOKE")
    if not _permissions_ahead(c):
        role = role_name(c)
        c.expect("K_FROM")
        return RevokeRole(role, role_name(c))
    permissions = _permissions(c)
    c.expect("K_ON")
    resource = _resource(c)
    c.expect("K_FROM")
    return RevokePermissions(permissions, resource, role_name(c))


def list_access(c: Cursor) -> ListPermissions | ListRoles | ListUsers | ListSuperusers:
    c.expect("K_LIST")
    if c.accept("K_USERS"):
        return ListUsers()
    if c.accept("K_SUPERUSERS"):
        return ListSuperusers()
    if c.accept("K_ROLES"):
        grantee = role_name(c) if c.accept("K_OF") else None
        return ListRoles(grantee, not c.accept("K_NORECURSIVE"))
    permissions = _permissions(c)
    resource = _resource(c) if c.accept("K_ON") else None
    grantee = role_name(c) if c.accept("K_OF") else None
    return ListPermissions(permissions, resource, grantee, not c.accept("K_NORECURSIVE"))


def _permissions_ahead(c: Cursor) -> bool:
    """Whether permissions follow rather than a role; ALL, UNMASK and SELECT_MASKED may be names of roles."""
    tag = c.tags[c.at]
    return (tag in _PERMISSIONS or tag == "K_ALL") and c.tags[c.at + 1] not in ("K_TO", "K_FROM")


def _permissions(c: Cursor) -> tuple[str, ...] | None:
    if c.accept("K_ALL"):
        c.accept("K_PERMISSIONS")
        return None
    read = [_permission(c)]
    while c.accept(","):
        read.append(_permission(c))
    return tuple(read)


def _permission(c: Cursor) -> str:
    if c.tags[c.at] not in _PERMISSIONS:
        raise c.no_viable()
    permission = c.texts[c.at].upper()
    c.at += 1
    c.accept("K_PERMISSION")
    return permission


def _resource(c: Cursor) -> Resource:
    following = c.tags[c.at + 1]
    if c.tags[c.at] == "K_ALL" and following in _EVERY:
        c.at += 1
        return _all_of(c)
    if c.accept("K_KEYSPACE"):
        return DataResource(keyspace_name(c))
    if c.tags[c.at] in ("K_MBEAN", "K_MBEANS") and following == STRING:
        pattern = c.accept("K_MBEANS")
        if not pattern:
            c.expect("K_MBEAN")
        return JmxResource(c.string(), pattern)
    if c.tags[c.at] == "K_ROLE" and (following in NAME_TAGS or following == STRING):
        c.at += 1
        return RoleResource(role_name(c))
    if c.tags[c.at] == "K_FUNCTION" and following in NAME_TAGS:
        c.at += 1
        function = function_name(c)
        return FunctionResource(function.keyspace, function, types_in_parentheses(c))
    c.accept("K_COLUMNFAMILY")
    table = table_name(c)
    return DataResource(table.keyspace, table.name)


_EVERY = frozenset(("K_KEYSPACES", "K_TABLES", "K_FUNCTIONS", "K_ROLES", "K_MBEANS"))


def _all_of(c: Cursor) -> Resource:
    """What follows ALL."""
    every = c.tags[c.at]
    c.at += 1
    if every == "K_KEYSPACES":
        return DataResource()
    if every == "K_ROLES":
        return RoleResource()
    if every == "K_MBEANS":
        return JmxResource()
    if every == "K_FUNCTIONS" and not c.accept("K_IN"):
        return FunctionResource()
    if every == "K_TABLES":
        c.expect("K_IN")
    c.expect("K_KEYSPACE")
    keyspace = keyspace_name(c)
    return FunctionResource(keyspace) if every == "K_FUNCTIONS" else DataResource(keyspace, None, True)
