"""One module per endpoint, and the boundary around them."""
