"""OuroDB: a distributed database that speaks CQL. ``node.py`` composes a node; read that first."""

__version__ = "0.1.0"
