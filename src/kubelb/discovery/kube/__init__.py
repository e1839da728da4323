"""A Service's endpoints from its EndpointSlices.

    API server -> stream (a thread) -> reflector (list, watch) -> reducer (slices -> Snapshot) -> source (poll, health)

`reflector.py` and `reducer.py` are pure; `stream.py` and what it uses are the only places that touch a socket. This
package imports msgspec, so building a source imports it, and nothing before.
"""
