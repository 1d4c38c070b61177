"""Running requests on the replicas that hold their rows; on this storey the one replica is this node's own
store."""
