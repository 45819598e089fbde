"""The stores in one SQLite database, which the processes of one host share."""
