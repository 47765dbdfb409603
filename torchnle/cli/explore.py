"""``torchnle explore PHOTO...``: read photographs by pointing at them, on a local page."""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from torchnle.cli.models import add_model_options, load_backbone
from torchnle.cli.output import say
from torchnle.cli.photos import files_of
from torchnle.errors import MissingDependencyError
from torchnle.evaluation import subject

if TYPE_CHECKING:
    from torchnle.explorer.explorer import Explorer

_PHRASES_ALONE = "none"


def add(commands: Any) -> None:
    """Add the command."""
    explore = commands.add_parser("explore", help="point at photographs and read what a model sees")
    explore.add_argument("photos", nargs="*", type=Path, metavar="PHOTO", help="files, or folders of them")
    add_model_options(explore)
    explore.add_argument(
        "--layer", action="append", default=[], metavar="NAME", help="repeat for more (default: four)"
    )
    explore.add_argument(
        "--decoder", metavar="REF", help=f"writes sentences; '{_PHRASES_ALONE}' = phrases alone"
    )
    explore.add_argument(
        "--units", type=Path, metavar="FOLDER", help="a report of torchnle dissect to link to"
    )
    explore.add_argument("--port", type=int, default=0, help="of the page (default: any that is free)")
    explore.add_argument("--open", action="store_true", help="open the page in the browser")
    export = explore.add_argument_group("a page that opens from disk")
    export.add_argument("--export", type=Path, metavar="FOLDER", help="write it here, and serve nothing")
    export.add_argument("--text", action="append", default=[], help="mapped on it; repeat for more")
    explore.set_defaults(run=_explore)


def _explore(options: argparse.Namespace) -> None:
    if options.export:
        from torchnle.explorer.export import export

        page = export(prepare(options), options.export, options.text)
        say(f"page: {page} ({page.stat().st_size / 1e6:.1f} MB)")
        return
    try:
        from torchnle.explorer.server import free_port, serve
    except ImportError as error:
        raise MissingDependencyError("starlette", extra="explore", purpose="to serve the page") from error
    opened = free_port(options.port)
    explorer = prepare(options)
    Thread(target=explorer.warm, daemon=True).start()

    def ready(address: str) -> None:
        say(f"{address}  (Ctrl+C ends)")
        if options.open:
            webbrowser.open(address)

    serve(explorer, opened, units=options.units, ready=ready)


def prepare(options: argparse.Namespace) -> Explorer:
    """Load what the options name."""
    from torchnle.explorer.explorer import Explorer
    from torchnle.explorer.prepare import attach
    from torchnle.methods.aligned.decoder.text_decoder import DECODER

    files = files_of(options.photos)
    backbone = load_backbone(options)
    if options.translator == subject.CLASS_NAMES:
        lang = attach(backbone, options.layer)
    else:
        lang = subject.attach(backbone, options.translator, options.layer)
    decoder = None if options.decoder == _PHRASES_ALONE else options.decoder or DECODER
    return Explorer(backbone, lang, files, decoder=decoder)
