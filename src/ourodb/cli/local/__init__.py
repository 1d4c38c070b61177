"""Rings on this machine, each node a process: what ``ouro up``, ``ouro serve --cores`` and ``ourodb.testing`` share."""
