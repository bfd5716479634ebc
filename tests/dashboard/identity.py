"""A small OpenID Connect provider on loopback: its page has one link per user."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import uvicorn
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

CLIENT = "auditlake"
SECRET = "a secret of the tests"
PEOPLE: dict[str, dict[str, Any]] = {
    "Ada": {"email": "ada@acme.example", "email_verified": True, "groups": ["security"]},
    "Eve": {"email": "eve@other.example", "email_verified": True, "groups": ["guests"]},
    "Mallory": {"email": "mallory@acme.example", "email_verified": False, "groups": []},
}


class Provider:
    """Authorization code flow with one client; codes are valid once."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._codes: dict[str, dict[str, Any]] = {}
        self.app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._metadata),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
                Route("/keys", self._keys),
            ]
        )

    @property
    def metadata_url(self) -> str:
        return f"{self.issuer}/.well-known/openid-configuration"

    def _metadata(self, _request: Request) -> Response:
        at = {"authorization": "authorize", "token": "token"}
        return JSONResponse(
            {
                "issuer": self.issuer,
                "jwks_uri": f"{self.issuer}/keys",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "code_challenge_methods_supported": ["S256"],
                **{f"{name}_endpoint": f"{self.issuer}/{path}" for name, path in at.items()},
            }
        )

    def _authorize(self, request: Request) -> Response:
        params = request.query_params
        if (who := params.get("who")) is None:
            links = (f'<p><a href="{request.url}&who={name}">{name}</a></p>' for name in PEOPLE)
            return HTMLResponse("<h1>Who are you?</h1>" + "".join(links))
        code = secrets.token_urlsafe(16)
        self._codes[code] = {"sub": who, "nonce": params["nonce"], **PEOPLE[who]}
        return RedirectResponse(f"{params['redirect_uri']}?code={code}&state={params['state']}")

    async def _token(self, request: Request) -> Response:
        form = await request.form()
        claims = self._codes.pop(str(form["code"]))
        now = datetime.now(UTC)
        lasting = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + timedelta(hours=1)}
        signed = jwt.encode(
            {**claims, **lasting}, self._key, algorithm="RS256", headers={"kid": "1"}
        )
        return JSONResponse({"access_token": "none", "token_type": "Bearer", "id_token": signed})

    def _keys(self, _request: Request) -> Response:
        public = jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return JSONResponse({"keys": [{**public, "kid": "1", "use": "sig", "alg": "RS256"}]})


@contextmanager
def providing() -> Iterator[Provider]:
    """Run a provider in a thread, on a free port of the loopback interface."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        provider = Provider(f"http://127.0.0.1:{listening.getsockname()[1]}")
        config = uvicorn.Config(provider.app, log_level="warning", lifespan="off", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            yield provider
        finally:
            server.should_exit = True
            thread.join()
