"""Everything that talks to the identity provider."""
