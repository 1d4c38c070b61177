"""Who is in the ring, and who owns what."""
