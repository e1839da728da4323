"""A reflector without a network: the test is the server, the clock and the dice.

What it tells is kept as a reducer keeps it: an event that is older than what is known changes nothing.
"""

import json
import random
from urllib.parse import parse_qsl, urlsplit

from kubelb.discovery.kube.reflector import Reflector
from kubelb.discovery.kube.scope import Fixed
from kubelb.discovery.kube.steps import PAUSE, READ, RESYNC, Failure, Get, Phase, Reply, Sleep
from kubelb.discovery.kube.versions import Seen

REFUSED = Failure(Phase.CONNECT, "connecting to 10.96.0.1:443: connection refused")
SILENT = Failure(Phase.STREAM, "watching 10.96.0.1:443: no answer in time", silent=True)
BROKEN = Failure(Phase.STREAM, "watching 10.96.0.1:443: the connection broke off")
MUTE = Failure(Phase.HEADERS, "waiting for an answer from 10.96.0.1:443: no answer in time", silent=True)


class Wait(float):
    """In a stream: seconds that pass before the next piece."""


def ok(obj):
    return Reply(200, json.dumps(obj).encode())


def no(obj, retry_after=0.0):
    return Reply(obj["code"], json.dumps(obj).encode(), retry_after, "https://10.96.0.1:443", "the test")


def line(obj):
    return json.dumps(obj).encode() + b"\n"


class Asked:
    """One request as the server saw it."""

    def __init__(self, step, now):
        self.at = now
        self.watch = step.watch
        self.fresh = step.fresh
        self.query = dict(parse_qsl(urlsplit(step.path).query))

    def __repr__(self):
        kind = "watch" if self.watch else "list"
        version = self.query.get("resourceVersion")
        match = "+" if self.query.get("resourceVersionMatch") == "NotOlderThan" else ""
        token = f" continue={self.query['continue']}" if "continue" in self.query else ""
        return f"{kind} {'-' if version is None else repr(version)[1:-1]}{match}{token}"


class World:
    """`server(asked)` answers a Get: Reply, Failure, or for a watch a list of bytes, Wait, Failure and RESYNC."""

    def __init__(self, server, seed=7, services=("reviews",)):
        self.now = 0.0
        self.server = server
        self.asked = []
        self.sleeps = []
        self.told = []
        self.store = {}
        self.seen = Seen()
        self.states = []
        self.resync_at = None
        self.reflector = Reflector("prod", Fixed(*services), self, clock=lambda: self.now, rng=random.Random(seed))

    # what the reflector tells

    def replace(self, slices, unread=frozenset(), version=""):
        self.store = {each.metadata.name: each.metadata.resource_version for each in slices}
        self.seen.replace(dict(self.store))
        self.told.append(f"replace {len(slices)}")

    def upsert(self, piece):
        if self.seen.upsert(piece.metadata.name, piece.metadata.resource_version):
            self.store[piece.metadata.name] = piece.metadata.resource_version
        self.told.append(f"upsert {piece.metadata.name}")
        self.states.append((piece.metadata.resource_version, self.reflector.cursor))

    def delete(self, piece):
        if self.seen.delete(piece.metadata.name, piece.metadata.resource_version):
            self.store.pop(piece.metadata.name, None)
        self.told.append(f"delete {piece.metadata.name}")

    def heard(self):
        self.heard_at = self.now

    def failed(self, trouble):
        self.told.append(f"failed {trouble.kind}")
        self.trouble = trouble

    def recovered(self):
        self.told.append("recovered")

    def skipped(self, what, reason):
        self.told.append(f"skipped {what}: {reason}")

    # the driver

    def run(self, seconds=float("inf"), requests=float("inf")):
        """Until so much time has passed or so many requests were made."""
        steps, answer, pieces = self.reflector.run(), None, iter(())
        step = next(steps)
        for _ in range(200_000):
            if isinstance(step, Get):
                if len(self.asked) >= requests or self.now >= seconds:
                    break
                self.asked.append(Asked(step, self.now))
                answer, pieces = self.server(self.asked[-1]), iter(())
                if step.watch and not isinstance(answer, (Reply, Failure)):
                    pieces, answer = iter(answer), Reply(200)
            elif isinstance(step, Sleep):
                self.sleeps.append(step.seconds)
                end = self.now + step.seconds
                answer = None
                if self.resync_at is not None and self.resync_at <= end and not step.through:
                    end, self.resync_at, answer = max(self.now, self.resync_at), None, RESYNC
                self.now = end
                if self.now >= seconds:
                    break
            elif step is READ:
                answer = b""
                for piece in pieces:
                    if isinstance(piece, Wait):
                        self.now += piece
                    else:
                        answer = piece
                        break
                if self.now >= seconds:
                    break
            else:
                assert step is PAUSE
                answer = None
            step = steps.send(answer)
        steps.close()
        return [repr(asked) for asked in self.asked]
