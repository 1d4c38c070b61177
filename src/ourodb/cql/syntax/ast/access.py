"""Statements on roles, permissions and identities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ourodb.cql.syntax.ast.names import QualifiedName, TypeName


@dataclass(frozen=True, slots=True)
class RoleOptions:
    """What WITH says of a role; None where it says nothing.

    Attributes:
        password, hashed_password, generated_password: at most one is given.
        datacenters: those the role may use; () for ACCESS TO ALL DATACENTERS.
        cidrs: CIDR groups it may come from; () for ACCESS FROM ALL CIDRS.
    """

    password: str | None = None
    hashed_password: str | None = None
    generated_password: bool = False
    superuser: bool | None = None
    login: bool | None = None
    options: dict[str, str] | None = None
    datacenters: tuple[str, ...] | None = None
    cidrs: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class CreateRole:
    """CREATE ROLE, or CREATE USER (a role with login, superuser only if said)."""

    name: str
    options: RoleOptions
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class AlterRole:
    """ALTER ROLE or ALTER USER."""

    name: str
    options: RoleOptions
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropRole:
    """DROP ROLE or DROP USER."""

    name: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class GrantRole:
    role: str
    grantee: str


@dataclass(frozen=True, slots=True)
class RevokeRole:
    role: str
    revokee: str


@dataclass(frozen=True, slots=True)
class ListRoles:
    """LIST ROLES; grantee is None for all."""

    grantee: str | None = None
    recursive: bool = True


@dataclass(frozen=True, slots=True)
class ListUsers:
    """LIST USERS."""


@dataclass(frozen=True, slots=True)
class ListSuperusers:
    """LIST SUPERUSERS."""


@dataclass(frozen=True, slots=True)
class DataResource:
    """ALL KEYSPACES (nothing given), KEYSPACE ks, ALL TABLES IN KEYSPACE ks (all_tables), or a table."""

    keyspace: str | None = None
    table: str | None = None
    all_tables: bool = False


@dataclass(frozen=True, slots=True)
class RoleResource:
    """ALL ROLES, or one role."""

    role: str | None = None


@dataclass(frozen=True, slots=True)
class FunctionResource:
    """ALL FUNCTIONS (nothing given), ALL FUNCTIONS IN KEYSPACE ks, or one function with its argument types."""

    keyspace: str | None = None
    function: QualifiedName | None = None
    argument_types: tuple[TypeName, ...] = ()


@dataclass(frozen=True, slots=True)
class JmxResource:
    """ALL MBEANS, MBEAN 'name', or MBEANS 'pattern'."""

    name: str | None = None
    pattern: bool = False


Resource: TypeAlias = DataResource | RoleResource | FunctionResource | JmxResource


@dataclass(frozen=True, slots=True)
class GrantPermissions:
    """GRANT; permissions are upper case, in the order written, None for ALL."""

    permissions: tuple[str, ...] | None
    resource: Resource
    grantee: str


@dataclass(frozen=True, slots=True)
class RevokePermissions:
    """REVOKE; permissions are upper case, in the order written, None for ALL."""

    permissions: tuple[str, ...] | None
    resource: Resource
    revokee: str


@dataclass(frozen=True, slots=True)
class ListPermissions:
    """LIST permissions; permissions, resource and grantee are None for all."""

    permissions: tuple[str, ...] | None
    resource: Resource | None = None
    grantee: str | None = None
    recursive: bool = True


@dataclass(frozen=True, slots=True)
class AddIdentity:
    """``ADD IDENTITY identity TO ROLE role``."""

    identity: str
    role: str
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropIdentity:
    """``DROP IDENTITY identity``."""

    identity: str
    if_exists: bool = False
