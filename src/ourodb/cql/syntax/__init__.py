"""CQL as text: lexer, parser, syntax tree.

``parser.parse(text)`` gives an ``ast`` node or raises ``CqlSyntaxError``; ``format`` writes names and strings back
as CQL. This package knows the grammar of Apache Cassandra 5 (and some of what 6 adds) in full, and no schema at all:
whether a statement makes sense, and whether OuroDB can run it, is decided by whoever takes the tree.
"""
