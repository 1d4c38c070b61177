"""The ``ouro`` command.

Imports of the commands are inside ``main``'s callees on purpose: ``ouro serve`` must answer its first query
within a second, and the load generator's or the tables' libraries have no business in a serving node's memory.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of ``ouro``."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["serve"]:
        from ourodb.cli.serve import serve

        sys.exit(serve(arguments[1:]))
    from ourodb.cli.application import application

    application()
