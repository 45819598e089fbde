"""The rules of the RFCs as pure functions: no I/O, and the time is passed in."""
