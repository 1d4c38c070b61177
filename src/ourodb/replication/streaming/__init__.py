"""Rows that change hands: what one node holds of a range, sent to another that gains it."""
