"""The stores of clients, grants, revocations, waiting token responses and used assertions, in SQLite or Redis."""
