"""The slow and obvious answer to "which endpoints are to be used", written from the rules and not from the code.

It works on JSON objects, knows no increments, no marks, no tables, and looks at every endpoint as often as it likes.
"""

import ipaddress


def choose(
    slices, *, port, node="", zone="", local=False, family="IPv4", require_serving=False, avoid_terminating=False
):
    """(used, parked) as sets of "ip:port", for one address family."""
    entries = {}
    for obj in slices:
        if obj["addressType"] != family:
            continue
        number = None
        for each in obj["ports"] or []:
            name, proto, value = each.get("name") or "", each.get("protocol") or "TCP", each.get("port")
            if proto == "TCP" and value and (value == port if isinstance(port, int) else name == port):
                number = value
                break
        if number is None:
            continue
        for endpoint in obj["endpoints"] or []:
            if endpoint.get("addresses"):
                ip = ipaddress.ip_address(endpoint["addresses"][0])
                text = f"[{ip}]:{number}" if ip.version == 6 else f"{ip}:{number}"
                entries.setdefault(text, []).append((obj, endpoint))

    chosen = {text: _winner(candidates) for text, candidates in entries.items()}
    used = _used(chosen, node, zone, local, require_serving, avoid_terminating)
    return used, chosen.keys() - used


def _condition(endpoint, name, nil):
    value = (endpoint.get("conditions") or {}).get(name)
    return nil if value is None else value


def _winner(candidates):
    def fresh(candidate):
        obj, _ = candidate
        meta = obj["metadata"]
        changed = (meta.get("annotations") or {}).get("endpoints.kubernetes.io/last-change-trigger-time", "")
        return changed, int(meta.get("resourceVersion") or 0)

    def state(candidate):
        _, endpoint = candidate
        return _condition(endpoint, "terminating", False), not _condition(endpoint, "ready", True)

    by_uid = {}
    for position, candidate in enumerate(sorted(candidates, key=lambda candidate: candidate[0]["metadata"]["name"])):
        uid = (candidate[1].get("targetRef") or {}).get("uid") or position
        by_uid.setdefault(uid, []).append(candidate)
    finalists = []
    for uid, same in by_uid.items():
        newest = max(fresh(candidate) for candidate in same)
        finalists.append(
            (str(uid) if isinstance(uid, str) else "", min((c for c in same if fresh(c) == newest), key=state))
        )
    return min(finalists, key=lambda pair: (*state(pair[1]), pair[0], pair[1][0]["metadata"]["name"]))[1][1]


def _used(chosen, node, zone, local, require_serving, avoid_terminating):
    def ready(endpoint):
        if require_serving and not _condition(endpoint, "serving", True):
            return False
        if avoid_terminating and _condition(endpoint, "terminating", False):
            return False
        return _condition(endpoint, "ready", True)

    def draining(endpoint):
        return _condition(endpoint, "serving", True) and _condition(endpoint, "terminating", False)

    def here(endpoint):
        return bool(node) and endpoint.get("nodeName") == node

    def hinted(endpoint, kind):
        return {hint["name"] for hint in (endpoint.get("hints") or {}).get(kind) or []}

    def pick(test):
        return {text for text, endpoint in chosen.items() if test(endpoint)}

    if local:
        return pick(lambda e: here(e) and ready(e)) or pick(lambda e: here(e) and draining(e))
    all_ready = [endpoint for endpoint in chosen.values() if ready(endpoint)]
    if not all_ready:
        return pick(draining)
    for kind, me in (("forNodes", node), ("forZones", zone)):
        if me and all(hinted(e, kind) for e in all_ready) and any(me in hinted(e, kind) for e in all_ready):
            return pick(lambda e, kind=kind, me=me: ready(e) and me in hinted(e, kind))
    return pick(ready)
