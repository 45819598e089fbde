"""The stores of clients, grants and used assertions, in SQLite or Redis."""
