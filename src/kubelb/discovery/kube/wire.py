"""What the API server sends, as far as it is read: msgspec structs with the needed fields and no others.

Unknown fields are skipped at the decoder's speed (managedFields, ownerReferences, deprecatedTopology). Every pointer
field of the API may be absent or null. The structs live from the decoder to the reducer and no longer: kept alive they
would double the memory of the model.

`gc=False`: none of them can be part of a cycle, so the collector need not visit tens of thousands of them in a list.
`omit_defaults`: written again (`desk.py`), a slice is as small as it can be.
"""

from typing import Annotated, TypeAlias

import msgspec

from kubelb.discovery.kube.versions import LONGEST

__all__ = [
    "Conditions",
    "Event",
    "Hints",
    "Labels",
    "Meta",
    "Name",
    "Port",
    "Ref",
    "Row",
    "Slice",
    "SliceList",
    "Status",
    "decode_event",
    "decode_list",
    "decode_named",
    "decode_slice",
    "decode_status",
]


Version: TypeAlias = Annotated[str, msgspec.Meta(max_length=LONGEST)]


class Conditions(msgspec.Struct, gc=False, omit_defaults=True):
    """Nil means: ready, serving, not terminating (discovery/v1 types.go)."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Ref(msgspec.Struct, gc=False, omit_defaults=True):
    kind: str | None = None
    namespace: str | None = None
    name: str | None = None
    uid: str | None = None


class Name(msgspec.Struct, gc=False, omit_defaults=True):
    name: str = ""


class Hints(msgspec.Struct, gc=False, omit_defaults=True, rename="camel"):
    for_zones: list[Name] | None = None
    for_nodes: list[Name] | None = None


class Row(msgspec.Struct, gc=False, omit_defaults=True, rename="camel"):
    """One endpoint of a slice."""

    addresses: list[str] | None = None
    conditions: Conditions | None = None
    hostname: str | None = None
    target_ref: Ref | None = None
    node_name: str | None = None
    zone: str | None = None
    hints: Hints | None = None


class Port(msgspec.Struct, gc=False, omit_defaults=True, rename="camel"):
    name: str | None = None
    protocol: str | None = None
    port: int | None = None
    app_protocol: str | None = None


class Labels(msgspec.Struct, gc=False, omit_defaults=True, rename={"service": "kubernetes.io/service-name"}):
    service: str = ""


class Annotations(
    msgspec.Struct, gc=False, omit_defaults=True, rename={"changed": "endpoints.kubernetes.io/last-change-trigger-time"}
):
    changed: str = ""


class Meta(msgspec.Struct, gc=False, omit_defaults=True, rename="camel"):
    name: str = ""
    namespace: str = ""
    resource_version: Version = ""
    labels: Labels | None = None
    annotations: Annotations | None = None


class Slice(msgspec.Struct, gc=False, omit_defaults=True, rename="camel"):
    """A discovery.k8s.io/v1 EndpointSlice; a bookmark is one with nothing but a resourceVersion."""

    metadata: Meta
    kind: str = ""
    address_type: str = ""
    endpoints: list[Row] | None = None
    ports: list[Port] | None = None

    @property
    def service(self) -> str:
        """The Service it belongs to, "" where the label is missing."""
        return self.metadata.labels.service if self.metadata.labels else ""

    @property
    def changed(self) -> str:
        """When the change that led to it happened, as the controller noted it."""
        return self.metadata.annotations.changed if self.metadata.annotations else ""


class ListMeta(msgspec.Struct, gc=False, rename={"resource_version": "resourceVersion", "next": "continue"}):
    resource_version: Version = ""
    next: str = ""


class Named(msgspec.Struct, gc=False):
    """Of an object that makes no sense otherwise: what it is called."""

    metadata: Name


class SliceList(msgspec.Struct, gc=False):
    """One page. The items stay bytes, so that one that makes no sense costs itself and not the page, and so that no
    single call into the decoder holds the interpreter for long (8 ms for 10 000 endpoints)."""

    metadata: ListMeta
    kind: str = ""
    items: list[msgspec.Raw] | None = None


class Event(msgspec.Struct, gc=False):
    """One line of a watch. The object stays bytes until its type is known."""

    type: str = ""
    object: msgspec.Raw = msgspec.Raw(b"null")


class Cause(msgspec.Struct, gc=False):
    reason: str | None = None
    message: str | None = None


class Details(msgspec.Struct, gc=False, rename={"retry_after": "retryAfterSeconds"}):
    causes: list[Cause] | None = None
    retry_after: float | None = None


class Status(msgspec.Struct, gc=False):
    """The API server's way of saying no."""

    kind: str = ""
    code: int | None = None
    reason: str | None = None
    message: str | None = None
    details: Details | None = None


decode_event = msgspec.json.Decoder(Event).decode
decode_list = msgspec.json.Decoder(SliceList).decode
decode_slice = msgspec.json.Decoder(Slice).decode
decode_named = msgspec.json.Decoder(Named).decode
decode_status = msgspec.json.Decoder(Status).decode
