"""Fixtures that tests of all packages share."""

from hypothesis import settings

# A timing is never asserted: a busy machine must not fail a property.
settings.register_profile("ourodb", deadline=None)
settings.load_profile("ourodb")
