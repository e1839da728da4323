"""Random servers with random faults, under virtual time: after some quiet the client knows what they know."""

import random

import pytest

from kubelb.discovery.kube.reducer import Reducer
from kubelb.discovery.kube.steps import Failure, Phase, Reply

from .build import piece, row, wire
from .server import bookmark, event, slice_list, status
from .world import BROKEN, MUTE, REFUSED, SILENT, Wait, World, line, no, ok


class Model:
    """An API server with a history, which may be compacted, and with many ways to be rude."""

    def __init__(self, seed, until):
        self.rng = random.Random(seed)
        self.until = until
        self.version = 100
        self.slices = {}
        self.history = []
        self.floor = 100
        self.world = World(self.answer, seed=seed)

    @property
    def quiet(self):
        return self.world.now >= self.until

    def change(self):
        """One slice is written or deleted."""
        self.version += self.rng.randint(1, 3)
        name = f"s-{self.rng.randint(0, 4)}"
        if name in self.slices and self.rng.random() < 0.3:
            del self.slices[name]
            self.history.append((self.version, event("DELETED", piece(name, version=self.version))))
            return
        kind = "MODIFIED" if name in self.slices else "ADDED"
        ips = [row(f"10.0.{name[-1]}.{self.rng.randint(1, 9)}") for _ in range(3)]
        self.slices[name] = piece(name, ips, version=self.version)
        self.history.append((self.version, event(kind, self.slices[name])))

    def misfortune(self):
        """What happens to a request."""
        return self.rng.choice(
            [
                REFUSED,
                MUTE,
                Failure(Phase.TLS, "handshake", silent=True),
                no(status(429, retry=self.rng.randint(0, 3))),
                no(status(500)),
                no(status(403)),
                no(status(401)),
                Reply(200, b"<html>"),
                Reply(503, b"", 2.0),
            ]
        )

    def answer(self, asked):
        if not self.quiet:
            for _ in range(self.rng.randint(0, 4)):
                self.change()
            if self.rng.random() < 0.15:
                self.floor = self.version
            if self.rng.random() < 0.35:
                return self.misfortune()
        since = asked.query.get("resourceVersion")
        if not asked.watch:
            if since not in {None, "0"} and int(since) > self.version:
                return no(status(504, "Timeout", cause="ResourceVersionTooLarge"))
            return ok(slice_list(*self.slices.values(), version=self.version))
        if int(since) < self.floor:
            gone = status(410, "Expired", "too old resource version")
            return self.rng.choice([no(gone), [line(event("ERROR", gone))]])
        return self.stream(int(since))

    def stream(self, since):
        """Everything since then, and what happens meanwhile, until something ends it."""
        sent = since
        for _ in range(self.rng.randint(1, 30)):
            yield Wait(self.rng.choice([0.01, 0.3, 20]))
            if not self.quiet and self.rng.random() < 0.7:
                self.change()
            todo = [(version, told) for version, told in self.history if version > sent]
            data = b"".join(line(told) for _, told in todo)
            if not self.quiet and self.rng.random() < 0.1:
                yield data[: self.rng.randint(0, len(data))] or b"\n"
                yield self.rng.choice([BROKEN, SILENT, b"", b"{nonsense\n"])
                return
            if data:
                cut = self.rng.randint(0, len(data))
                yield from (part for part in (data[:cut], data[cut:]) if part)
                sent = todo[-1][0]
            if not self.quiet and todo and self.rng.random() < 0.2:
                yield line(self.rng.choice(todo)[1])  # said twice
            if self.rng.random() < 0.3:
                yield line(bookmark(max(sent, self.version if not self.quiet else sent)))
                sent = max(sent, self.version if not self.quiet else sent)


@pytest.mark.parametrize("seed", range(40))
def test_ends_equal(seed):
    """After an hour of changes and faults and some quiet, client and server agree; requests stay few."""
    model = Model(seed, until=3600)
    world = model.world
    world.run(seconds=3600 + 1300)
    assert sum(asked.at < 3600 for asked in world.asked) < 3700
    assert world.store == {name: each["metadata"]["resourceVersion"] for name, each in model.slices.items()}
    assert world.told.count("recovered") <= sum(told.startswith("failed") for told in world.told)


@pytest.mark.parametrize("seed", range(10))
def test_reducer_behind_it(seed):
    """The reducer behind the reflector ends with the endpoints of the server's slices."""
    model = Model(seed, until=600)
    world = model.world
    reducer = Reducer("reviews", "prod", "http")
    for name in ("upsert", "delete"):
        known = getattr(world, name)
        setattr(
            world, name, lambda each, known=known, name=name: (known(each), getattr(reducer, name)(each, world.now))
        )
    known_replace = world.replace
    world.replace = lambda slices, unread=frozenset(), version="": (
        known_replace(slices),
        reducer.replace(slices, world.now),
    )
    world.run(seconds=600 + 1300)
    scratch = Reducer("reviews", "prod", "http")
    scratch.replace([wire(each) for each in model.slices.values()], 0.0)
    assert set(reducer.snapshot(world.now + 1.0).endpoints) == set(scratch.snapshot(0.0).endpoints)
