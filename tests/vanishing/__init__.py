"""Nodes that vanish: what every adapter's connections are told by their socket options, and what becomes of them."""
