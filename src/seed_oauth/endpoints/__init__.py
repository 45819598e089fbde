"""One module for each endpoint, and the boundary around them."""
