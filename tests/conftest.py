"""Fixtures that tests of all packages share."""
