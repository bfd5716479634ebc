"""Accept GraphQL as JSON in the body of a POST only.

Dagster executes whatever the address of a GET contains, mutations included, and the address of a
POST of any type. A page of any site can send both, as an image or a form, without reading the
response.
"""

from __future__ import annotations

from starlette.datastructures import Headers, QueryParams
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class JsonOnly:
    """ASGI middleware; requests outside of /graphql and WebSockets pass unchanged."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _is_graphql(scope["path"]) and not _is_accepted(scope):
            text = "refused: send GraphQL by POST, as application/json\n"
            await PlainTextResponse(text, 403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _is_graphql(path: str) -> bool:
    return path.rstrip("/").endswith("/graphql")


def _is_accepted(scope: Scope) -> bool:
    if "query" in QueryParams(scope["query_string"]):
        return False
    # Exact: Dagster takes any type that contains the words, such as "text/plain;application/json".
    kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
    return scope["method"] != "POST" or kind == "application/json"
