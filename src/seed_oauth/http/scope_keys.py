"""Keys that the server adds to ASGI scopes, for the parts of the app that have to know of its connections."""

DRAINING = "seed_oauth.draining"
"""In the state of a request's scope: an `asyncio.Event` that is set once the server is to stop."""

HALF_CLOSED = "seed_oauth.half_closed"
"""In the scope of a request whose client has shut its side down after it, and may be gone."""
