"""Thousands of random ends in threads: nothing in flight, nothing open."""

import gc
import random
import threading
import time

import pytest
import requests
from tests.adapters_requests.conftest import URL, Session, in_flight, until

from kubelb.adapters.requests import Adapter

STREAM = "http://reviews.prod/stream?chunks=3&delay=0.001"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_threads(service, balance):
    """2000 calls from 8 threads that end well, badly, early, late or never; then not one connection is left."""
    backends = service(4)
    backends[0].slow(0.003)
    backends[1].fail(503, times=300)
    backends[2].truncate(times=300)
    lb = balance(*backends)
    adapter = Adapter(lb)
    strange = []

    def work(seed: int) -> None:
        dice = random.Random(seed)
        client = Session()
        client.mount("http://", adapter)
        for _ in range(250):
            try:
                way = dice.random()
                if way < 0.3:
                    client.get(URL, timeout=dice.choice([0.002, 1.0]))
                elif way < 0.5:
                    client.post(URL, json={"x": 1})
                elif way < 0.6:
                    client.put(URL, data=iter([b"a", b"b"]))
                elif way < 0.75:
                    with client.get(STREAM, stream=True) as response:
                        for _part in response.iter_content(5):
                            if dice.random() < 0.3:
                                break
                elif way < 0.85:
                    with client.get(STREAM, stream=True):
                        raise KeyError("the caller's own")
                elif way < 0.93:
                    for _part in client.get(STREAM, stream=True).iter_content(5):
                        break
                else:
                    client.get(STREAM, stream=True)
            except (requests.RequestException, KeyError):
                pass
            except BaseException as error:
                strange.append(error)
        client.adapters.clear()  # closing a session would close the adapter of all

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert strange == []
    assert in_flight(lb) == 0
    adapter.close()
    assert until(lambda: sum(backend.connections for backend in backends) == 0, 5)


@pytest.mark.slow
def test_one_dead_pod_of_three(session, service, balance):
    """1000 calls see no error, and fewer than ten tries are wasted on the dead one."""
    backends = service(3)
    lb = balance(*backends)
    client = session(lb)
    backends[0].kill()
    began = time.monotonic()
    assert {client.get(URL).status_code for _ in range(1000)} == {200}
    dead = next(view for view in lb.endpoints() if view.address == backends[0].address)
    assert dead.failures < 10
    assert time.monotonic() - began < 30
