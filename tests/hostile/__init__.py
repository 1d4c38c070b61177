"""Clients that break the rules, and one beside them that doesn't.

All modules of this folder share one node of their own. ``neighbour`` runs against it the whole time, its memory is
sampled the whole time, and ``test_whole_list`` asks about both at the end.
"""
