"""What a load balancer does, heard by a function of yours: here each event is shown as JSON, with its own words."""

import json

import kubelb
from kubelb.events import Ejected, Event, Retried


def main() -> None:
    with kubelb.LoadBalancer("static:///10.0.0.7:8080,10.0.0.8:8080,10.0.0.9:8080", policy="round_robin") as lb:

        @lb.on_event
        def forget(event: Event) -> None:
            if isinstance(event, Ejected | Retried):
                print(json.dumps({"event": type(event).__name__, "level": event.level, **event.as_dict()}))
                print(f"  in words: {event}")

        for _ in range(15):
            lb.call(ask, idempotent=True)
        forget()  # it hears no more


def ask(attempt: kubelb.Attempt) -> str:
    """One of the three pods refuses connections; a client of yours would raise this."""
    if attempt.endpoint.ip == "10.0.0.7":
        raise ConnectionRefusedError
    return "200 OK"


if __name__ == "__main__":
    main()
