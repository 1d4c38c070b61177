"""The other members, as the metadata log reaches them."""

from __future__ import annotations

from collections.abc import Callable

from ourodb.peer.messages import FAILED, REPLY, Verb
from ourodb.ports import Link, NodeId

SendMessage = Callable[[Link, Verb, int, int, bytes], bool]
"""(link, verb, flags, request, body): puts the header before it and sends it; False when it was dropped."""


class Peers:
    """Attributes:
    is_up: whether the failure detector takes a node for alive.
    """

    __slots__ = ("_links", "_request", "_send", "is_up")

    def __init__(
        self,
        links: Callable[[NodeId], Link | None],
        is_up: Callable[[NodeId], bool],
        send: SendMessage,
    ) -> None:
        self._links = links
        self._send = send
        self._request = 0
        self.is_up = is_up

    def send(self, node: NodeId, verb: Verb, body: bytes) -> bool:
        """Send what wants no reply."""
        link = self._links(node)
        return link is not None and self._send(link, verb, 0, 0, body)

    def ask(self, node: NodeId, verb: Verb, body: bytes) -> int:
        """Send a request; its number, or 0 when it was dropped."""
        link = self._links(node)
        return 0 if link is None else self.ask_link(link, verb, body)

    def ask_link(self, link: Link, verb: Verb, body: bytes) -> int:
        """``ask`` for one that isn't a member, or not known to be."""
        self._request = self._request % 0xFFFF_FFFF + 1
        return self._request if self._send(link, verb, 0, self._request, body) else 0

    def answer(self, link: Link, verb: Verb, request: int, body: bytes) -> None:
        """Reply to a request."""
        self._send(link, verb, REPLY, request, body)

    def refuse(self, link: Link, verb: Verb, request: int, why: str) -> None:
        """Reply that a request can't be answered."""
        self._send(link, verb, REPLY | FAILED, request, why.encode())
