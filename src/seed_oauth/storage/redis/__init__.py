"""The stores in Redis, which several hosts share."""
