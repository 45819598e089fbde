"""Requests and responses: parameters, pages, CORS, security headers, and the bytes of an error."""
