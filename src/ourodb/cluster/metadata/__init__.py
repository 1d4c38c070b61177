"""The replicated log of schema and topology changes, and the view of the cluster that it amounts to.

Read ``metadata`` first: it puts the parts together and says what each is for.
"""
