"""How the ring behaves at sizes that no machine here holds: ``python -m ourodb.sim.scale``.

Three things in a node grow with the number of nodes, and nothing else does: what gossip costs and how long news
takes, how sure a node can be that another is dead, and who holds what. Each is measured with production's own
code, for rings of ten to a thousand nodes:

``ring``       any number of gossiping nodes, and the network between them
``gossip``     how fast changes and deaths become known, what that costs, who is wrongly held to be DOWN
``placement``  how evenly data is spread, what one more node moves, how long all that takes to compute
``figures``    what was measured, what it is measured against, and how it is kept
``report``     tables
``plots``      pictures; only these need matplotlib

All but the times of computing come from virtual time and one seed, and are the same on any machine.
"""
