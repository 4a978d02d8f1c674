"""A sign-in on the loopback: as much of OpenID Connect as Gradio's asks Hugging Face for."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

VISITOR = {"sub": "1", "name": "V", "preferred_username": "visitor", "profile": "", "picture": ""}
SCOPE = "openid profile read-repos contribute-repos jobs"


@contextmanager
def provider(access_token: str) -> Iterator[dict[str, str]]:
    """Signs everyone in with this token; yields the environment of a Space that relies on it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.state = {  # type: ignore[attr-defined]
        "token": access_token,
        "key": RSAKey.generate_key(2048, {"kid": "k", "use": "sig", "alg": "RS256"}, private=True),
        "nonce": "",
    }
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield {
            "SYSTEM": "spaces",
            "SPACE_ID": "someone/space",
            "OAUTH_CLIENT_ID": "client",
            "OAUTH_CLIENT_SECRET": "secret",
            "OAUTH_SCOPES": SCOPE,
            "OPENID_PROVIDER_URL": f"http://127.0.0.1:{server.server_port}",
        }
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    @property
    def state(self) -> dict[str, Any]:
        return self.server.state  # type: ignore[attr-defined]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"  # type: ignore[attr-defined]

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        if asked.path == "/.well-known/openid-configuration":
            ends = {end: f"{self.url}/{end}" for end in ("authorize", "token", "jwks")}
            self.give(
                {
                    "issuer": self.url,
                    "authorization_endpoint": ends["authorize"],
                    "token_endpoint": ends["token"],
                    "jwks_uri": ends["jwks"],
                    "id_token_signing_alg_values_supported": ["RS256"],
                }
            )
        elif asked.path == "/authorize":
            query = {key: values[0] for key, values in parse_qs(asked.query).items()}
            self.state["nonce"] = query["nonce"]
            back = urlencode({"code": "code", "state": query["state"]})
            self.send_response(302)
            self.send_header("Location", f"{query['redirect_uri']}&{back}")
            self.end_headers()
        elif asked.path == "/jwks":
            self.give({"keys": [self.state["key"].as_dict(private=False)]})
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        now = int(time.time())
        claims = {"iss": self.url, "aud": "client", "iat": now, "exp": now + 900} | VISITOR
        claims["nonce"] = self.state["nonce"]
        self.give(
            {
                "access_token": self.state["token"],
                "token_type": "bearer",
                "expires_in": 900,
                "scope": SCOPE,
                "id_token": jwt.encode({"alg": "RS256", "kid": "k"}, claims, self.state["key"]),
            }
        )

    def give(self, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass
