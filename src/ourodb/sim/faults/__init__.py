"""What goes wrong, and when: the nemesis of a run.

Each kind of fault is a script: it chooses its victims, does its harm, waits, and makes it good again. When the
nemesis's time is up it waits until all is healed.

When it strikes is data: strikes are numbered, and the moments of all follow from the seed, whatever comes of
them. Which kind a strike is, and whom it hits, and for how long, comes from a stream of its own. So a strike can
be left out, or a kind of fault forbidden, and the others stay what they were; ``shrink`` thins a failing run
that way. A strike for which there is no room, because as many as may be are under way, is left out too.

But for a blackout, no more than a minority of the machines is ever down or stopped at once; partitions and
slowness come on top.

What can go wrong depends on the layer. Peers and clients talk over streams, so within a connection nothing is
reordered, doubled or left out: a lost packet is a delay, and a broken connection when it lasts. Across
connections messages overtake each other; a broken one leaves its end in doubt; and what is then said again, by a
hint or a retry of the nodes, is doubled by them. So there is no fault that doubles or reorders: ``loss``,
``reset``, ``flap`` and ``kill`` make the nodes do it.

A disk that is gone for good takes the only copy of what was acknowledged with it, sooner or later, so ``new-disk``
gives the old one back in the end: what is tried is that a node which has forgotten who it was isn't taken for the one
that it was. Whole machines are gone for good in ``leave``, ``death`` and ``replace``, one at a time.
"""
