"""Links between pages, shared by several services."""

from __future__ import annotations

import httpx

from pipelines.errors import ForeignLink


def own_link(client: httpx.Client, link: str) -> str:
    """Return a vendor's link relative to base_url, so that a cursor outlives a new base_url.

    Raises ForeignLink if it points to another host, because the credential would be sent there.
    """
    base = client.base_url
    url = base.join(link)
    if (url.scheme, url.host, url.port) != (base.scheme, base.host, base.port):
        raise ForeignLink(
            f"a response links to {url.scheme}://{url.netloc.decode()} instead of "
            f"{base.scheme}://{base.netloc.decode()}: not followed, because the credential "
            "would be sent there; check base_url"
        )
    target, prefix = url.raw_path.decode(), base.raw_path.decode().rstrip("/")
    if not target.startswith(f"{prefix}/"):
        raise ForeignLink(
            f"a response links to {url.path}, outside base_url: not followed; check base_url"
        )
    return target.removeprefix(prefix)


def next_link(client: httpx.Client, response: httpx.Response) -> str | None:
    """Return the rel="next" of the Link header (RFC 8288), relative to base_url, or None."""
    found = response.links.get("next")
    return own_link(client, found["url"]) if found else None
