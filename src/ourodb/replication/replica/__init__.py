"""The receiving side: what a node does for coordinators, itself included, with the rows that it holds."""
