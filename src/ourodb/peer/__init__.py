"""The protocol between nodes, without sockets: frames, the handshake, one connection's state, verbs."""
