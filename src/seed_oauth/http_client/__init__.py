"""Connections to other servers."""
