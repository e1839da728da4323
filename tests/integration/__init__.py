"""Tests against a real etcd, kube-apiserver, endpointslice controller and CoreDNS, in a network namespace of their own.

    python -m tests.integration.netns -- python -m pytest tests/integration

The layers, each of which knows only those before it:

    processes       a child process that dies with us, is killed, frozen, and keeps its log
    api             JSON verbs against an API server
    binaries        where etcd and its friends are
    servers         the command line of each, and when it is ready
    controlplane    the four together: start, faults, kubeconfigs, close
    cluster         namespaces, services, nodes, pods: what kubectl and the kubelets would do
    access          service accounts, roles, tokens
    backends        HTTP servers on pod addresses
    proxy           what stands between kubelb and the API server, and breaks
    pods            processes that find themselves in a pod
    balancers       kubelb's load balancers, closed in time and without a trace
    load, fleet     requests to a Service, and its pods, which are killed and drained in the midst of them

`netns` stands alone: it makes the network in which pod addresses can be bound; `mounted` does so for a pod's files.
How late the machine itself was, `tests/stalls.py` knows.

What a test waits for is a state that must come, with `wait_for` and patience for a busy machine, never a time after
which it should have. Nothing is in effect because it was written: slices are behind pods (`Cluster.wait_ready`), the
authorizer is behind the bindings (`access.wait_may`), the controllers behind a restart (`wait_controllers`), a watch
behind its list (`Proxy.wait_watch`), the event and health behind the endpoint that they tell of. A promise in time is
measured beside a control, or in requests instead of seconds.
"""
