"""`seed-oauth explain`: what happened in one login, told from the log."""
