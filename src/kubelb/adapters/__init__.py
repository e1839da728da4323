"""Bridges between a client and the flow, one module a client; each needs the extra of its name."""
