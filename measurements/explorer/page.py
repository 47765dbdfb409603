"""The explorer's page: served, opened in chromium, and its pictures for the docs."""

from __future__ import annotations

import io
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from torchnle.errors import MissingDependencyError
from torchnle.explorer.explorer import Explorer


@contextmanager
def served(explorer: Explorer) -> Iterator[str]:
    """Serve an explorer in a thread; yields the page's address."""
    import uvicorn

    from torchnle.explorer.server import application, free_port

    opened = free_port()
    port = opened.getsockname()[1]
    config = uvicorn.Config(application(explorer, port=port), log_level="error", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = True
        thread.join(10)


@contextmanager
def browser() -> Iterator[Any]:
    """Start Debian's chromium.

    Raises:
        MissingDependencyError: If playwright is not installed.
        ValueError: If chromium is not.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise MissingDependencyError("playwright", extra="test", purpose="to drive a browser") from error
    program = shutil.which("chromium")
    if program is None:
        raise ValueError("chromium is not installed: apt-get install chromium.")
    with sync_playwright() as running:
        started = running.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield started
        finally:
            started.close()


def opened(started: Any, address: str, width: int, zoom: float) -> Any:
    """Open the page in a new window, with an empty cache, and wait for the first words."""
    context = started.new_context(viewport={"width": width, "height": 800}, device_scale_factor=zoom)
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    page.wait_for_selector("#words[data-answered]")
    return page


def pictures(explorer: Explorer, folder: Path) -> None:
    """Take pictures of the page, by day and by night, for the docs."""
    key = next(iter(explorer.photos.given))
    state = f"#photo={key}&layer={explorer.layers[-1]}&region=3,2,4,3&text=an+eye&text=whiskers&off=cat"
    with served(explorer) as address, browser() as started:
        for scheme, name in (("light", "explorer"), ("dark", "explorer_dark")):
            context = started.new_context(viewport={"width": 1280, "height": 860}, color_scheme=scheme)
            page = context.new_page()
            page.set_default_timeout(120_000)
            page.goto(address + state)
            for waited in ("#maps[data-answered]", "#why[data-answered]", "#sentence[data-answered]"):
                page.wait_for_selector(waited)
            _shrink(page.screenshot(), folder / f"{name}.png")
            context.close()


def _shrink(content: bytes, file: Path, most: int = 200_000) -> None:
    """Write a picture as PNG as large as 200 kB allow."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    for width in (1100, 1000, 900, 800, 700):
        small = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
        small.quantize(255, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            file, optimize=True
        )
        if file.stat().st_size <= most:
            return
