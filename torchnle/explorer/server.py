"""The explorer's server: a page, its files, and the questions that it asks, on this machine alone."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from torchnle.explorer.explorer import CHARACTERS, TEXTS, Explorer
from torchnle.explorer.page import STATIC, live_page
from torchnle.explorer.regions import Region
from torchnle.explorer.security import OwnPagesOnly

#: The address that is served: this machine only.
ADDRESS = "127.0.0.1"
#: Asks the explorer one question of a request's JSON.
Ask = Callable[[dict[str, Any]], dict[str, Any]]


def application(
    explorer: Explorer, *, port: int, token: str | None = None, units: Path | None = None
) -> Starlette:
    """Build the server's application.

    Args:
        explorer: Answers the page's requests.
        port: Where it is served, since requests name it in Host.
        token: The token of this run; None = a new one.
        units: A folder with the report of a dissection.

    Raises:
        ValueError: If the folder holds no report.

    Example:
        >>> from torchnle.explorer.server import application
        >>> application(explorer, port=8000).routes  # doctest: +SKIP
    """
    page_token = token or secrets.token_urlsafe(24)
    if units is not None and not (units / "index.html").is_file():
        raise ValueError(
            f"{units} holds no index.html; pass the folder that torchnle dissect --output wrote."
        )
    routes = [
        Route("/", _page(page_token)),
        Route("/api/start", _start(explorer, units)),
        Route("/photo/{key}.jpg", _picture(explorer)),
        Route("/api/photo", _add(explorer), methods=["POST"]),
        *(Route(f"/api/{name}", _answer(ask), methods=["POST"]) for name, ask in _asks(explorer).items()),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    if units is not None:
        routes.append(Mount("/units", StaticFiles(directory=units, html=True)))
    hosts = (f"{ADDRESS}:{port}", f"localhost:{port}")
    return Starlette(routes=routes, middleware=[Middleware(OwnPagesOnly, hosts=hosts, token=page_token)])


def _asks(explorer: Explorer) -> dict[str, Ask]:
    """The questions by the ends of their addresses."""

    def of_region(answer: Callable[..., dict[str, Any]]) -> Ask:
        return lambda request: answer(
            request.get("photo"), request.get("layer"), Region.of(request.get("region"))
        )

    return {
        "about": lambda request: explorer.about(request.get("photo")),
        "words": of_region(explorer.words),
        "sentence": of_region(explorer.sentence),
        "maps": lambda request: explorer.maps(request.get("photo"), request.get("texts")),
        "classes": lambda request: explorer.classes(request.get("photo"), request.get("off")),
    }


def _answer(ask: Ask) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        try:
            fields = json.loads(await request.body())
        except (ValueError, RecursionError):
            return _error("the request is no JSON.", 400)
        if not isinstance(fields, dict):
            return _error("the request is no JSON object.", 400)
        return await _answered(ask, fields)

    return answer


async def _answered(ask: Callable[..., dict[str, Any]], *arguments: Any) -> Response:
    """Ask in another thread, so that the server goes on answering; turn bad questions into sentences."""
    try:
        return JSONResponse(await run_in_threadpool(ask, *arguments))
    except KeyError as error:
        return _error(str(error.args[0]), 404)
    except (ValueError, TypeError) as error:
        return _error(str(error), 400)


def _error(message: str, status: int) -> Response:
    return JSONResponse({"error": message}, status)


def _page(token: str) -> Callable[[Request], Any]:
    content = live_page(token)

    async def page(request: Request) -> Response:
        return HTMLResponse(content)

    return page


def _start(explorer: Explorer, units: Path | None) -> Callable[[Request], Any]:
    def start(request: Request) -> Response:
        return JSONResponse(start_of(explorer) | {"units": "/units/index.html" if units else None})

    return start


def start_of(explorer: Explorer) -> dict[str, Any]:
    """Return what a page shows before its first request."""
    return {
        "model": explorer.backbone.name,
        "about": explorer.lang.summary,
        "photos": [photo.to_dict() for photo in explorer.photos.given.values()],
        "sentences": explorer.sentences.offered,
        "concepts": explorer.concepts is not None,
        "limits": {"texts": TEXTS, "characters": CHARACTERS},
    }


def _picture(explorer: Explorer) -> Callable[[Request], Any]:
    def picture(request: Request) -> Response:
        try:
            photo = explorer.photos[request.path_params["key"]]
        except KeyError as error:
            return _error(str(error.args[0]), 404)
        return Response(photo.jpeg, media_type="image/jpeg")

    return picture


def _add(explorer: Explorer) -> Callable[[Request], Any]:
    def add(content: bytes, name: str) -> dict[str, Any]:
        return explorer.add(content, name).to_dict()

    async def answer(request: Request) -> Response:
        name = unquote(request.headers.get("x-file-name", "photograph"))
        return await _answered(add, await request.body(), name)

    return answer


def free_port(port: int = 0) -> socket.socket:
    """Open the server's socket on this machine's own address.

    Args:
        port: The port; 0 = any that is free.

    Raises:
        ValueError: If the port is taken.
    """
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((ADDRESS, port))
    except (OSError, OverflowError) as error:
        opened.close()
        raise ValueError(f"port {port} cannot be used: {error}. Pass another --port.") from error
    return opened


def serve(
    explorer: Explorer,
    opened: socket.socket,
    *,
    units: Path | None = None,
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve until interrupted.

    Args:
        explorer: Answers the page's requests.
        opened: As `free_port` gives it.
        units: As `application`.
        ready: Called with the page's address when it answers.
    """
    import uvicorn

    port = opened.getsockname()[1]
    app = application(explorer, port=port, units=units)
    config = uvicorn.Config(app, log_level="warning", lifespan="off", server_header=False, ws="none")

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            ready(f"http://{ADDRESS}:{port}/")

    Server(config).run(sockets=[opened])
