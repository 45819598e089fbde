"""`seed-oauth demo`: a door with an identity provider of its own, and clients that log in."""
