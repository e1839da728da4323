"""A soak of discovery: thirty services against a real control plane that fails all the time, for as long as is asked.

    python -m tests.integration.netns -- python -m tests.soak_discovery --seconds 600 --seed 1

    services    what there is: services, slices, pods, and the next change to them, drawn from a dice
    churn       writes the changes, twenty a second, through an API server that is always well
    plane       etcd, that API server, the one that kubelb reads and that fails, CoreDNS
    network     the pods' servers, and a gate in front of the API server that fails, which can cut connections
    faults      what goes wrong, and how it is mended
    caller      the process under test: a load balancer for each service, requests to some of them
    line        what that process tells, as it is known here
    audit       what the API server itself wrote down about the requests that reached it
    oracle      which set each service has, read from the other API server; shares nothing with kubelb's reducers
    verdict     what must hold, each with what was seen
    soak        all of it, from its beginning to its verdict

Two API servers share one etcd. The script writes through the second one, and CoreDNS reads that one; so what kubelb
should know goes on while the first one is away, and DNS is right when slices are not.

Addresses are never given to a second pod. So an address that was gone for good can be told from every other for ever,
and that it came back into use is a fault, whenever it happens.
"""
