"""Judges of histories.

Each is a function of what clients saw, knows nothing of the cluster, and returns what was wrong.

Only what follows from the history is a violation: an operation with an unknown outcome may have happened, at
any moment from its invocation on, or not.
"""
