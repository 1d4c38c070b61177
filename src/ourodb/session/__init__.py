"""What happens between a client's request and its answer.

``session`` is one connection's state and dispatch; ``processor`` compiles statements and runs them;
``statements`` keeps what was compiled; ``answer`` is one request's reply in the making; ``virtual_tables``
gives the tables that nothing stores; ``tracing`` writes system_traces. No sockets and no tasks: a request
comes in as bytes and goes out as bytes, in one call when nothing has to be waited for.
"""
