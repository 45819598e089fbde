"""Keys that are added to ASGI scopes, for what other parts have to know about a request or its connection."""

ADMITTED = "seed_oauth.admitted"
"""In the scope of a request whose access token was accepted."""

OPERATIONS = "seed_oauth.operations"
"""In the scope of a request whose body was read for the rules of tools: a tuple of `access.tools.Operation`."""

DRAINING = "seed_oauth.draining"
"""In the state of a request's scope: an `asyncio.Event` that is set when the server begins to stop."""

RESOURCE = "seed_oauth.resource"
"""In the scope of a request to `/oauth/verify`: the name of the protected resource that is meant, for the metrics."""

HALF_CLOSED = "seed_oauth.half_closed"
"""In the scope of a request whose client has shut down its side of the connection, and may be gone: what closes the
connection, for an app that does not complete its response."""
