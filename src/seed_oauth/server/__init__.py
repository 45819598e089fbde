"""The HTTP server of `seed-oauth serve`: listeners, their connections, and the processes that serve them."""
