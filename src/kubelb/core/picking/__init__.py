"""Picking: which endpoints there are to choose from, how the picker for that is made, how a request finds its endpoint.

seen       what a balancer looks like at one moment, taken under its lock
builder    the pickers of that moment, made outside of it
picking    those pickers, and what goes beyond one pick: probes and trials, second tries, live connections
"""
