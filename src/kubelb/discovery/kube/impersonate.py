"""``as:`` and similar keys in a kubeconfig's user: the headers that ask the API server to take us for another user.

    as               Impersonate-User
    as-uid           Impersonate-Uid
    as-groups        Impersonate-Group, one header each
    as-user-extra    Impersonate-Extra-KEY, one header for each value; what no header's name can hold is %-escaped

As client-go sends them (transport/round_trippers.go). The headers are added to the login and do not replace it: the
API server checks whether the user that logged in may impersonate.
"""

from kubelb.discovery.kube.access import CredentialsError
from kubelb.discovery.kube.stanza import Stanza

__all__ = ["impersonation"]

# RFC 7230's token characters, without the percent sign that the escapes begin with.
_LEGAL = frozenset(b"!#$&'*+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~")


def impersonation(user: Stanza) -> tuple[tuple[str, str], ...]:
    """Return the headers, none where there is no ``as:``; raises `CredentialsError`."""
    name, uid, groups, extra = (
        user.text("as"),
        user.text("as-uid"),
        user.texts("as-groups"),
        user.lists("as-user-extra"),
    )
    if not name:
        if uid or groups or extra:
            raise CredentialsError(
                f"{user} asks for a uid, groups or user-extra of somebody else and does not say of whom",
                "give as: beside as-uid, as-groups and as-user-extra, or take them out",
            )
        return ()
    headers = [("Impersonate-User", name)]
    if uid:
        headers.append(("Impersonate-Uid", uid))
    headers += [("Impersonate-Group", group) for group in groups]
    headers += [(f"Impersonate-Extra-{_escaped(key)}", value) for key in sorted(extra) for value in extra[key]]
    for key, value in headers:
        if any(ord(sign) < 32 or ord(sign) == 127 for sign in value):
            raise CredentialsError(f"{user} has a control character in what is to be sent as {key}", "take it out")
    # http.client sends text as latin-1; these bytes are UTF-8 on the wire, as Go sends them.
    return tuple((key, value.encode("utf-8").decode("latin-1")) for key, value in headers)


def _escaped(key: str) -> str:
    """The key as part of a header's name.

    >>> _escaped("example.com/scopes"), _escaped("100%"), _escaped("é")
    ('example.com%2Fscopes', '100%25', '%C3%A9')
    """
    return "".join(chr(byte) if byte in _LEGAL else f"%{byte:02X}" for byte in key.encode("utf-8"))
