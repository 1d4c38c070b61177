"""A whole cluster in one process on virtual time: one seed gives one run, byte for byte."""
