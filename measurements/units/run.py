"""``python -m measurements dissect-units``: one or several of its parts."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

import torch

from torchnle import backbones, images
from torchnle.cli.output import say
from torchnle.evaluation import record
from torchnle.methods.aligned.decoder.corpus import STAMPS
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.translators.base import Translator

PARTS = ("planted", "outputs", "cost", "interrupted", "ablations")
_MAP = "aligned-efficientnet-lite0-scenes"


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("dissect-units", help="labels of planted and of output units; costs; kills")
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--folder", type=Path, required=True, help="keeps activations and images")
    parser.add_argument("--translator", default=_MAP, metavar="REF")
    parser.add_argument("--stamps", type=Path, default=STAMPS, metavar="FOLDER")
    parser.add_argument("--photographs", type=Path, metavar="FOLDER", help="added to the probing set")
    parser.add_argument("--count", type=int, default=2000, help="scenes to probe with (default: %(default)s)")
    parser.add_argument(
        "--held-out", type=int, default=2000, help="scenes to measure on (default: %(default)s)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="planted units: each")
    parser.add_argument(
        "--units", type=int, default=4, help="of interrupted runs, ablations (default: %(default)s)"
    )
    parser.add_argument("--timed", type=int, metavar="N", help="images to time probing on (default: all)")
    parser.add_argument("--chat-units", type=int, default=3, help="for SmolLM2 (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=6, help="of interrupted runs (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--measure", action="append", default=[], metavar="MODULE:FUNCTION", help="sanity-checked, too"
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="write JSON and Markdown here")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Measure the requested parts, and write each part as a file of its own."""
    torch.set_num_threads(options.threads)
    backbone = backbones.load("efficientnet-lite0")
    translator = Translator.from_pretrained(options.translator)
    if not isinstance(translator, MapTranslator):
        raise ValueError(f"'{options.translator}' is no map from text into features.")
    for part in options.parts:
        found = _measure(part, backbone, translator, options)
        found = {"setting": record.setting() | {"threads": options.threads, "seeds": options.seeds}, **found}
        page = pages(part, found)
        if options.output:
            record.write(options.output, f"dissect_{part}", found, page)
        say(page)


def _measure(
    part: str, backbone: backbones.Backbone, translator: MapTranslator, options: argparse.Namespace
) -> dict[str, Any]:
    from measurements.units import ablations, cost, interrupted, outputs, planted

    common: dict[str, Any] = {"count": options.count, "progress": not options.quiet}
    stamps, folder = options.stamps, options.folder
    if part == "planted":
        common["cache"] = folder / "cache"
        return {
            "by_seed": {
                str(n): planted.measure(backbone, translator, stamps, seed=n, **common) for n in options.seeds
            }
        }
    if part == "interrupted":
        given = {"count": options.count, "units": options.units, "kills": options.kills}
        return interrupted.measure(stamps, folder, seed=options.seeds[0], **given)
    if part == "ablations":
        return ablations.measure(backbone, translator, stamps, folder, units=options.units, **common)
    if part == "cost":
        common |= {"timed": options.timed, "chat_units": options.chat_units}
        return cost.measure(backbone, translator, stamps, folder, **common)
    shown = () if options.photographs is None else _photographs(options.photographs)
    other = backbones.load("efficientnet-lite2")
    return outputs.measure(
        backbone,
        other,
        translator,
        options.stamps,
        held_out=options.held_out,
        photographs=shown,
        seed=options.seeds[0],
        checked={name: _function(name) for name in options.measure},
        cache=options.folder / "cache",
        **common,
    )


def _function(name: str) -> Any:
    """A measure by its name: presence and activations (N, U) into one score a unit."""
    module, _, function = name.partition(":")
    found = getattr(importlib.import_module(module), function, None) if function else None
    if not callable(found):
        raise ValueError(f"--measure {name!r} names no function; pass one such as 'my.module:measure'.")
    return found


def _photographs(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(f for f in folder.rglob("*") if f.suffix.lower() in images.SUFFIXES))


def pages(part: str, found: dict[str, Any]) -> str:
    """Return one part's results as Markdown."""
    if part == "planted":
        return _planted_page(found["by_seed"])
    if part in ("cost", "interrupted"):
        skipped = ("setting", "examples", "with_chat")
        rows = [[name, _plain(value)] for name, value in found.items() if name not in skipped]
        title = "What labelling costs" if part == "cost" else "Runs that were killed, and two at once"
        return f"# {title}\n\n{record.table(['', ''], rows)}"
    return _ablations_page(found) if part == "ablations" else _outputs_page(found)


def _ablations_page(found: dict[str, Any]) -> str:
    header = ["labels", "correlation", "cosine to the default", "same", "processor seconds a unit"]
    rows = [
        [n, _shown(r["correlation"]), _shown(r["agreement"]), r["same"], r["processor_seconds_a_unit"]]
        for n, r in found["rows"].items()
    ]
    skipped = ("setting", "rows")
    facts = [[name, value] for name, value in found.items() if name not in skipped]
    return f"# Ablations\n\n{record.table(header, rows)}\n\n{record.table(['the layer', ''], facts)}"


def _planted_page(by_seed: dict[str, Any]) -> str:
    rows = [
        [seed, name, f"{r['right']} of {r['of']}", f"{r['pairs']} of {r['of_pairs']}", r["thing_right"]]
        for seed, found in by_seed.items()
        for name, r in found.items()
    ]
    labels = [
        [seed, truth, label, "" if right else "wrong"]
        for seed, found in by_seed.items()
        for (truth, label), right in zip(
            found["with contrast"]["labels"], found["with contrast"]["each"], strict=True
        )
    ]
    table = record.table(["seed", "labels", "units right", "pairs right", "things right"], rows)
    return f"# Planted units\n\n{table}\n\n{record.table(['seed', 'truth', 'label', ''], labels)}"


def _outputs_page(found: dict[str, Any]) -> str:
    columns = ("presence", "neutral", "auprc", "cosy auc", "cosy mad", "cosine to truth")
    rows = [[name, *(_shown(row.get(column)) for column in columns)] for name, row in found["rows"].items()]
    kinds = list(found["compared"]["presence"])
    compared = [
        [kind, *(_shown(found["compared"][m][kind]) for m in ("presence", "neutral"))] for kind in kinds
    ]
    checks = [[name, c["missing"], c["extra"], str(c["passes"])] for name, c in found["sanity"].items()]
    return (
        f"# {found['units']} output units of EfficientNet-Lite0\n\n"
        f"Labelled from {found['probing_images']} images, measured on {found['held_out_scenes']} other "
        "scenes; 95 % bootstrap intervals over units.\n\n"
        f"{record.table(['labeller', *columns], rows)}\n\n## The same units compared\n\n"
        f"{record.table(['', 'presence', 'neutral'], compared)}\n\n## Sanity checks of the measures\n\n"
        f"{record.table(['measure', 'missing labels noticed', 'extra labels noticed', 'passes'], checks)}\n\n"
        "Correlation of image with label similarity over pairs of units (A.8; the paper's 0.4406): "
        f"{found['diversity']:.3f}."
    )


def _shown(interval: Any) -> str:
    return "-" if interval is None else f"{interval[0]:.3f} ({interval[1]:.3f} to {interval[2]:.3f})"


def _plain(value: Any) -> Any:
    return ", ".join(f"{name} {x:.1f}" for name, x in value.items()) if isinstance(value, dict) else value
