"""What can go wrong between two nodes, and whose fault it is.

``RemoteFault`` and its children are what the other end did, or what it is: the connection ends, nothing of ours is
broken. ``LocalFault`` is our own mistake: a caller that asks for what a connection can't do. All of them are values as
much as exceptions: a connection keeps the one that ended it.
"""

from __future__ import annotations

from ourodb.errors import OuroError


class PeerFault(OuroError):
    """Why a connection between nodes can't go on."""


class LocalFault(PeerFault):
    """This end was asked for something that a connection in its state can't do."""


class RemoteFault(PeerFault):
    """The other end broke the protocol, or isn't whom we should speak with."""


class BrokenBytes(RemoteFault):
    """Bytes that are no part of the protocol, or that were damaged or changed on their way."""


class VersionMismatch(RemoteFault):
    """There is no version of the protocol that both ends speak."""


class WrongSecret(RemoteFault):
    """The other end doesn't know the cluster's secret."""


class OtherCluster(RemoteFault):
    """The other end knows the secret, but belongs to another cluster."""


class OwnReflection(RemoteFault):
    """The other end is this node, or claims to be it or to listen at its address."""


class NotAdmitted(RemoteFault):
    """The other end is known, and not welcome; the message says why."""


class Refused(RemoteFault):
    """The other end, which knows the secret, refuses us; the message is its reason."""
