"""Who a user is, and whether they may come in."""
