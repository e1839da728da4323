"""Who may do what: service accounts, roles, bindings, and tokens as a pod would get them."""

from __future__ import annotations

from collections.abc import Sequence

from .api import Api, ApiError, Json
from .processes import wait_for

RBAC = "/apis/rbac.authorization.k8s.io/v1"

# All that kubelb needs, and what its documentation tells people to grant.
READ_SLICES: Json = {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}


class Access:
    """Grants and takes away. The API server follows within milliseconds, but not at once: wait for the effect."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def service_account(self, ns: str, name: str) -> str:
        self.api.create(f"/api/v1/namespaces/{ns}/serviceaccounts", {"metadata": {"name": name}})
        return name

    def role(self, ns: str, name: str, rules: Sequence[Json] = (READ_SLICES,)) -> str:
        """A role in one namespace, by default with the least that kubelb can work with."""
        self.api.create(f"{RBAC}/namespaces/{ns}/roles", {"metadata": {"name": name}, "rules": list(rules)})
        return name

    def bind(self, ns: str, role: str, sa: str, *, sa_namespace: str | None = None) -> str:
        """Give a role to a service account, and return the binding's name for `revoke`."""
        name = f"{role}-{sa}"
        body = {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": sa, "namespace": sa_namespace or ns}],
        }
        self.api.create(f"{RBAC}/namespaces/{ns}/rolebindings", body)
        return name

    def revoke(self, ns: str, binding: str) -> None:
        self.api.delete(f"{RBAC}/namespaces/{ns}/rolebindings/{binding}")

    def token(self, ns: str, sa: str, expiration: int = 600) -> str:
        """A token as it is mounted into pods. 600 seconds is the shortest life that the server grants."""
        body = {"spec": {"expirationSeconds": expiration}}
        answer = self.api.create(f"/api/v1/namespaces/{ns}/serviceaccounts/{sa}/token", body)
        return str(answer["status"]["token"])


def may(api: Api, ns: str, verb: str, resource: str = "endpointslices", group: str = "discovery.k8s.io") -> Json:
    """What a SelfSubjectAccessReview says about the owner of this view: its status, `allowed` with a `reason`."""
    attributes = {"namespace": ns, "verb": verb, "resource": resource, "group": group}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    status: Json = api.create(path, {"spec": {"resourceAttributes": attributes}})["status"]
    return status


def wait_may(api: Api, ns: str, *verbs: str) -> None:
    """Wait until the owner of this view may do all that with EndpointSlices: a binding takes effect a moment later."""
    for verb in verbs:
        wait_for(lambda verb=verb: may(api, ns, verb)["allowed"], what=f"leave to {verb}")  # type: ignore[misc]


def reads_slices(api: Api, ns: str) -> bool:
    """Whether the owner of this view can list EndpointSlices there, asked by doing it."""
    try:
        api.get(f"/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices", limit=1)
    except ApiError as error:
        if error.status in {401, 403}:
            return False
        raise
    return True
