"""Who owns what: members and their tokens, replication strategies, placement, choice of tokens. Pure functions."""
