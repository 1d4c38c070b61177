"""``ouro bench``: a load generator for any server that speaks CQL.

What runs where::

    parent    options -> schema -> phases -> merged histograms -> report        run, report
    process   its connections, its share of the rate and of the keys            worker, generator
    ------    one per core that the load is worth; they talk through a pipe

A run has up to three *phases*: preload (every key once), warm-up (not counted) and the measurement. The parent sends
each phase to all processes with the moment at which it starts, and once a second gets back what they counted since.

How latency is measured
-----------------------
At a fixed rate (``--rate``) every request has a moment at which it is due, whatever the server does, and its latency
counts from then: a server that stalls for a second delays everything that was due in that second, and all of it shows
(Tene, "How NOT to measure latency"). At full speed a request is due when the answer before it, on the same stream,
arrived; a stall then holds up the very requests that would have measured it. So the histogram of a full-speed run is
corrected afterwards as HdrHistogram does it: a latency of L on a stream that usually takes E also stands for the
requests that should have been sent meanwhile, L - E, L - 2E, ... The report has both, and says which is which.

The hot loop is one epoll over non-blocking sockets. Whatever one ``recv`` brought is answered with as many new
requests in one ``send``; a request is one ``pack``, one slice of a pool of random bytes, and one join.
"""
