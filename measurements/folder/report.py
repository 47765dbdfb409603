"""The page of the measurement of folders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torchnle.evaluation import record


def report(found: Mapping[str, Any]) -> str:
    """Format the measurement as Markdown."""
    rates = [
        [name, f"{found[key]['a second']:.2f}", f"{found[key]['seconds']:.1f}"]
        for name, key in (("a loop, one call a photograph", "loop"), ("`describe_dataset`", "batches"))
    ]
    table = [
        [r["photographs"], r["workers"], f"{r['a second']:.2f}", f"{r['most']:.0f}", f"{r['range']:.0f}"]
        for r in found["table"]
    ]
    shares = found["shares"]
    size = found["batch size"]
    single = shares["decode"] + shares["resize"] + shares["describe one"]
    batched = shares["decode"] + shares["resize"] + shares[f"describe {size} at once"]
    parts = [[name, f"{1000 * value:.1f}"] for name, value in shares.items()]
    decoding = shares["decode"] + shares["resize"]
    memory, draft, kills = found["memory"], found["draft"], found["kills"]
    return f"""# A folder of {found["count"]} photographs of 12 megapixels

Made JPEGs, {found["megabytes"]:.0f} MB in all; efficientnet-lite0 with its class names; batches of {size},
{found["workers"]} processes that decode, {found["threads"]} threads of the model, {found["cores"]} cores,
load {found["load"]:.1f} when it began. Reading the model is not counted; decoding is. Medians.

{record.table(["way", "photographs a second", "seconds"], rates)}

**{found["times"]:.2f} times** the rate of the loop (asked: 1.5). Texts that are the same:
{found["same texts"]} of {found["count"]}; scores differ by at most
{found["largest difference of a score"]:.1e}.

**Memory** of all processes together (shared pages once) from the first batch on: {memory["least"]:.0f} to
{memory["most"]:.0f} MB, a range of **{memory["range"]:.0f} MB** (asked: 300).

## Over photographs and processes

{record.table(["photographs", "processes that decode", "a second", "most MB", "range MB"], table)}

## Parts of the time, on one thread

{record.table(["part", "ms of the processor a photograph"], parts)}

Decoding and resizing are {decoding / single:.0%} of one call a photograph, {decoding / batched:.0%} in
batches.

JPEG's own scaling (Pillow's draft mode) to no less than twice the model's input is **not used**. It decodes
and resizes in {1000 * draft["seconds a photograph"]:.0f} ms, but its pixels differ by up to
{draft["largest difference of a pixel"]:.0f} of 255, scores by up to
{draft["largest difference of a score"]:.3f}, and {draft["texts that differ"]} of {draft["photographs"]} texts
are others.

## Kills and broken files

The command was killed {kills["kills"]} times at random moments, workers and all, and started again each time:
{kills["the same bytes"]} of {kills["finished"]} files that came to their end are, byte by byte, that of an
undisturbed run ({kills["seconds of an undisturbed run"]:.0f} s). Of the broken files
{", ".join(kills["broken"])} were skipped {len(kills["skipped"])} and named {len(kills["named"])}.
"""
