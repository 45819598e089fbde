"""`seed-oauth demo`: a front door with a built-in identity provider, and clients that log in."""
