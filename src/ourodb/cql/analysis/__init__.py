"""What a statement means: syntax trees checked against a schema. Terms get types, names become columns, and errors
are told as Apache Cassandra 5 tells them.
"""
