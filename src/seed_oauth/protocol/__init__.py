"""The rules of the RFCs as pure functions, without I/O."""
