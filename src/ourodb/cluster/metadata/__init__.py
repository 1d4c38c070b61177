"""The log of schema and topology changes, and the view of the cluster that it amounts to.

``log`` keeps the entries and applies them in order; ``view`` is what the rest of the node sees. A node alone decides
what is appended; in a ring the same entries come from consensus, and everything after that stays as it is.
"""
