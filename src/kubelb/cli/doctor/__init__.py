"""``kubelb doctor TARGET``: is everything here that kubelb needs, and if not, what to do.

finding.py   what one check found
api.py       a few requests to the API server, with discovery's own transport
cluster.py   configuration, credentials, permission, slices, port, zone
names.py     what DNS says, for a target that is a DNS name
around.py    what is around this process: DNS, the endpoints themselves, a mesh's sidecar
command.py   all of it in order, printed as it is found
"""
