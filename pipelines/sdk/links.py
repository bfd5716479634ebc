"""Small ways of walking pages that several services share."""

from __future__ import annotations

import httpx

from pipelines.errors import ForeignLink


def own_link(client: httpx.Client, link: str) -> str:
    """A vendor's link as a URL relative to base_url, so that it survives a move.

    Raises ForeignLink where it leads to another host: the credential would travel with it.
    """
    base = client.base_url
    url = base.join(link)
    if (url.scheme, url.host, url.port) != (base.scheme, base.host, base.port):
        raise ForeignLink(
            f"an answer links to {url.scheme}://{url.netloc.decode()}, not to "
            f"{base.scheme}://{base.netloc.decode()}: not followed, since the credential "
            "would travel with it"
        )
    target, prefix = url.raw_path.decode(), base.raw_path.decode().rstrip("/")
    if not target.startswith(f"{prefix}/"):
        raise ForeignLink(f"an answer links to {url.path}, outside of base_url: not followed")
    return target.removeprefix(prefix)


def next_link(client: httpx.Client, response: httpx.Response) -> str | None:
    """The Link header's rel="next" (RFC 8288), relative to base_url."""
    found = response.links.get("next")
    return own_link(client, found["url"]) if found else None
