"""Asking a node's admin API, for commands and for whoever starts nodes.

Which node is asked? The one that ``--admin`` names; else one of the ring whose folder ``--data`` names, the first that
answers; else the one at the default address, or if nobody answers there one of the ring in the default folder. So
``ouro status`` goes on telling when the first node of a ring has died, which is when one wants to know. What changes
something is asked of one node alone (``first_up``): one that takes it and answers late has taken it.
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ourodb.cli.local.layout import DEFAULT_FOLDER, LayoutError, is_there, load
from ourodb.config import expanded

DEFAULT_ADMIN: Final = "127.0.0.1:7070"

ANSWER_SECONDS_MAX: Final = 10.0

PORT: Final = re.compile(r"[0-9]{1,5}")


class AdminError(Exception):
    """One line for whoever asked."""


class NoAnswerError(AdminError):
    """Nobody answers there."""


def call(
    address: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    *,
    timeout_s: float = ANSWER_SECONDS_MAX,
) -> dict[str, Any]:
    """A node's answer.

    Args:
        address: HOST:PORT.
        body: what is asked; None for a plain GET.
    Raises:
        NoAnswerError: nobody answers there.
        AdminError: the node refuses, or what answers isn't a node; or the address isn't one.
    """
    host, port = split(address)
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        if body is None:
            connection.request("GET", path)
        else:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        text = reply.read()
    except http.client.HTTPException as error:
        raise AdminError(f"what listens on {address} is no admin port of a node ({error!r})") from error
    except UnicodeError as error:
        raise AdminError(f"'{address}' isn't HOST:PORT") from error
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise NoAnswerError(f"no node answers on {address} ({reason})") from error
    finally:
        connection.close()
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise AdminError(f"{address}{path}: {reply.status} {reply.reason}")
    if reply.status != 200:
        raise AdminError(str(found.get("error", f"{reply.status} {reply.reason}")))
    return found


def split(address: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``.

    Raises:
        AdminError: it isn't that.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or not PORT.fullmatch(port) or not 0 < int(port) < 65536:
        raise AdminError(f"'{address}' isn't HOST:PORT")
    return host.strip("[]"), int(port)


def candidates(admin: str | None, data: str | None) -> Sequence[str]:
    """Where to ask, in this order.

    Args:
        admin: HOST:PORT that the operator named.
        data: folder of a ring on this machine that the operator named.
    Raises:
        AdminError: the address isn't one, or there is no ring in that folder.
    """
    if admin is not None:
        split(admin)
        return [admin]
    folder = expanded(data or DEFAULT_FOLDER)
    try:
        if data is None and not is_there(folder):
            return [DEFAULT_ADMIN]
        nodes = [node.admin for node in load(folder).members]
    except LayoutError as error:
        raise AdminError(str(error)) from error
    return nodes if data is not None or DEFAULT_ADMIN in nodes else [DEFAULT_ADMIN, *nodes]


def ask(
    addresses: Sequence[str],
    path: str,
    body: Mapping[str, Any] | None = None,
    *,
    timeout_s: float = ANSWER_SECONDS_MAX,
) -> dict[str, Any]:
    """The answer of the first that answers.

    Raises:
        AdminError: as ``call``; when nobody answers it names the options by which one says where to ask.
    """
    return _first(addresses, path, body, timeout_s)[1]


def first_up(addresses: Sequence[str]) -> str:
    """The first of these where a node answers.

    Raises:
        AdminError: as ``ask``.
    """
    return _first(addresses, "/metadata", None, ANSWER_SECONDS_MAX)[0]


def _first(
    addresses: Sequence[str], path: str, body: Mapping[str, Any] | None, timeout_s: float
) -> tuple[str, dict[str, Any]]:
    """Who answers first, and what."""
    failures = []
    for address in addresses:
        try:
            return address, call(address, path, body, timeout_s=timeout_s)
        except NoAnswerError as error:
            failures.append(str(error))
    if len(failures) > 1:
        failures = [f"none of {', '.join(addresses)} answers"]
    raise NoAnswerError(
        f"{failures[0]}; name a node with --admin HOST:PORT, or the folder of a ring with --data"
    )
