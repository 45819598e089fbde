"""Where clients, grants and used assertions are kept: SQLite or Redis."""
