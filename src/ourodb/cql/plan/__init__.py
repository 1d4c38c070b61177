"""Checked statements compiled, once each, to closures that go from bound bytes to keys, records and result bytes."""
