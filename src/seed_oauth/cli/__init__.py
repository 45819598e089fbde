"""The commands of `seed-oauth`."""
