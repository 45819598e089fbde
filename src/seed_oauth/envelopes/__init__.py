"""Sealed envelopes: what this server hands out and can trust when it comes back."""
