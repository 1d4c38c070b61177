"""Keeping the copies: coordinating requests, and the receiving side of what coordinators send."""
