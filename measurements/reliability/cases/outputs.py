"""Outputs: names that do not collide, texts that do nothing; scores and operators as stated."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from PIL import Image

from measurements.reliability.cases.case import Found, Topic, equal, first_wrong, folder, images, refused
from measurements.reliability.cases.models import attached, classifier, translator
from torchnle import Description, backbones
from torchnle.cli import main, photos
from torchnle.description import DescriptionGrid
from torchnle.evaluation import record
from torchnle.metrics.captions import cider, words
from torchnle.ops import linear_lse, linear_lse_mu, short_decode_attention
from torchnle.translators.model_card import model_card
from torchnle.views.names import output_names
from torchnle.views.plots import plot_descriptions, plot_saliency, save

TOPIC = Topic("outputs, scores and operators")
case = TOPIC.case
_EVIL = "a | b\n\n# Title\n<script>run()</script> [x](javascript:y) `c` \x1b[2J\u202e"


@contextlib.contextmanager
def _command_line() -> Iterator[io.StringIO]:
    """The command line with a small classifier; what it says is kept."""
    model, out = classifier(), io.StringIO()
    lang = attached(model, images(2, 64, 64))

    def prepare(image: Image.Image) -> torch.Tensor:
        raw = torch.frombuffer(bytearray(image.convert("RGB").resize((64, 64)).tobytes()), dtype=torch.uint8)
        return raw.view(64, 64, 3).permute(2, 0, 1).float() / 255

    lang.preprocess = prepare
    backbone: Any = SimpleNamespace(preprocess=prepare, view=lambda image: image, model=model, clip=None)
    with (
        patch.object(backbones, "load", lambda *_, **__: backbone),
        patch.object(photos, "attach", lambda *_: lang),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(out),
    ):
        yield out


@case(
    'torchnle saliency a/photo.jpg b/photo.jpg --text "a cat" --output out', "two pictures, and two are said"
)
def one_name() -> Found:
    """Several files of one name."""
    with folder() as directory, _command_line() as out:
        for part in "ab":
            (directory / part).mkdir()
            Image.new("RGB", (20, 20), "red").save(directory / part / "photo.jpg")
        files = [str(directory / part / "photo.jpg") for part in "ab"]
        status = main(["saliency", *files, "--text", "a cat", "--output", str(directory / "out")])
        made = sorted(path.name for path in (directory / "out").iterdir())
    mentions = out.getvalue().count("picture:")
    return f"status {status}, {made}, {mentions} said", (status, len(made), mentions) == (0, 2, 2)


@case(
    "a/x.jpg and a/x.png; a/b/x.jpg and a_b/x.jpg; X.jpg and x.jpg; one file twice; '..'",
    "a name each, none twice",
)
def colliding_names() -> Found:
    """Names that collide in other ways."""
    given = [
        "a/x.jpg",
        "a/x.png",
        "a/b/x.jpg",
        "a_b/x.jpg",
        "b/X.jpg",
        "b/x.jpg",
        "../x.jpg",
        "x.jpg",
        "x_2.jpg",
    ]
    names = output_names([Path(each) for each in given])
    lowered = {name.lower() for name in names}
    plain = all("/" not in name and name not in (".", "..") for name in names)
    return str(names), len(lowered) == len(given) and plain


@case("'$x^2$ and $y$', '$5 or 10$', '$\\\\notacommand$' in words and titles", "drawn as they are")
def dollars() -> Found:
    """Dollar signs in a text that is drawn."""
    tried = []
    for text in ("$x^2$ and $y$", "$5 or 10$", "$\\notacommand$", "a_b^c {", "100 %"):
        cells = [Description(text, 0.0, layer="l", location=(0, i)) for i in range(2)]
        figure = plot_descriptions(Image.new("RGB", (40, 20)), DescriptionGrid(cells, (1, 2)))
        maps = plot_saliency(Image.new("RGB", (40, 20)), torch.rand(1, 3, 3), [text])
        drawn = [*figure.axes[0].texts, maps.axes[0].title]
        with folder() as directory:
            save(maps, directory / "a.png")
        shown = all(
            each.get_text().replace("\n", " ") == text and not each.get_parse_math() for each in drawn
        )
        tried.append((text, equal(shown, True)))
    return first_wrong(tried)


@case("a title, key and cell with HTML, links, tables, escape codes", "written out, nothing of it active")
def cards() -> Found:
    """A model card with texts of others."""
    made = translator("1", 6)
    tried = []
    for card in ({"title": _EVIL}, {_EVIL: "a fact"}, {"fact": _EVIL}, {"fact": [_EVIL]}):
        with patch.object(made, "card", card):
            body = model_card(made).split("---\n", 2)[2]
        line = next(line for line in body.splitlines() if "Title" in line)
        active = [each for each in ("<script", "](", "\x1b", " `c", "\u202e") if each in line]
        tried.append((str(card)[:20], (f"active: {active}", not active)))
    return first_wrong(tried)


@case("a query with escape codes, a file name with them, on the terminal", "written out as \\x1b")
def terminals() -> Found:
    """Texts of others on the terminal."""
    with folder() as directory, _command_line() as out:
        Image.new("RGB", (8, 8)).save(directory / "a\x1b[31m.png")
        status = main(["saliency", str(directory / "a\x1b[31m.png"), "--text", "a cat\x1b[2J\u202e"])
    steering = [repr(sign) for sign in "\x1b\u202e\x07" if sign in out.getvalue()]
    return f"status {status}, steering: {steering}", status == 0 and not steering


@case("an HTML report of such texts", "escaped")
def pages() -> Found:
    """A page with texts of others."""
    lang, x = attached(classifier(), images(2, 64, 64)), images(1, 64, 64)
    with folder() as directory:
        text = "<script>run()</script> <img src=x onerror=run()> & \" '"
        page = lang.report(x, directory / "a.html", texts=[text]).read_text(encoding="utf-8")
    active = [each for each in ("<script>run", "<img src=x") if each in page]
    return f"active: {active}", not active and "&lt;script&gt;run" in page


@case(
    "'U.S.', 'a.m.', 'AT&T', 'black/white', \"they're\", 'cannot', '3.5-inch'",
    "cut as the Penn treebank cuts them",
)
def penn() -> Found:
    """Words of caption scores."""
    wanted = {
        "the U.S. flag": "the u.s. flag",
        "at 7 a.m. in a room": "at 7 a.m. in a room",
        "an AT&T store": "an at&t store",
        "a black/white cat": "a black/white cat",
        "they cannot, they're gonna": "they can not they 're gon na",
        "the dog's 3.5-inch ball at 10:30": "the dog 's 3.5-inch ball at 10:30",
        "Mr. Hen vs. St. Bernard": "mr. hen vs. st. bernard",
    }
    return first_wrong([(text, equal(" ".join(words(text)), cut)) for text, cut in wanted.items()])


@case("candidates equal to their references, and no word in common", "CIDEr 10 and 0")
def consensus() -> Found:
    """CIDEr at its ends."""
    people = [["a red cat on a mat"], ["a dog in the park"], ["two birds near a lake"]]
    best, least = cider([each[0] for each in people], people), cider(["x y z w"] * 3, people)
    return f"{best:.3f}, {least:.3f}", abs(best - 10) < 1e-6 and abs(least) < 1e-9


_H = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
_W = torch.randn(5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@case("a bias of +inf, of NaN, of -inf", "ValueErrors; with -inf the output is left out")
def operator_bias() -> Found:
    """A bias that is no number."""
    tried = []
    for call in (linear_lse, linear_lse_mu):
        for value in (float("inf"), float("nan")):
            bias = torch.tensor([0.0, value, 0, 0, 0], dtype=torch.float64)
            tried.append(
                (f"{call.__name__} {value}", refused(lambda c=call, b=bias: c(_H, _W, b), r"NaN or \+inf"))
            )
    bias = torch.tensor([0.0, float("-inf"), 0, 0, 0], dtype=torch.float64)
    expected = (_H @ _W[[0, 2, 3, 4]].T).logsumexp(1)
    off = float((linear_lse(_H, _W, bias)[0] - expected).abs().max())
    return first_wrong([*tried, ("-inf", (f"off by {off:.0e}", off < 1e-6))])


@case("lengths of 0, -1 and beyond the keys in decode attention", "a ValueError that states the range")
def operator_lengths() -> Found:
    """A row that sees no key."""
    q, keys = torch.randn(2, 1, 4), torch.randn(2, 1, 3, 4)
    lengths = ([0, 2], [-1, 1], [2, 4])
    return first_wrong(
        [
            (
                str(each),
                refused(lambda e=each: short_decode_attention(q, keys, keys, torch.tensor(e)), "from 1 to 3"),
            )
            for each in lengths
        ]
    )


@case("a second derivative", "an error, not a detached gradient")
def operator_derivatives() -> Found:
    """Second derivatives of operators."""
    h = _H.clone().requires_grad_()
    found = linear_lse(h, _W, None)[0].sum()
    return refused(lambda: torch.autograd.grad(found, h, create_graph=True), "second derivative")


@case("a package within the repository of another project", "no commit")
def foreign_commit() -> Found:
    """The commit that a measurement is stamped with."""
    with folder() as directory:
        options = ["-c", "user.name=a", "-c", "user.email=a@b"]
        (directory / "lib" / "torchnle").mkdir(parents=True)
        (directory / "lib" / "torchnle" / "__init__.py").touch()
        for line in (["init", "-q"], ["add", "."], [*options, "commit", "-qm", "a"]):
            subprocess.run(["git", *line], cwd=directory, check=True, capture_output=True)
        return equal(record.commit_of(directory / "lib" / "torchnle"), "")


@case("torchnle's commands without --output, in an empty folder", "nothing is written there")
def working_folder() -> Found:
    """Commands that write where one stands."""
    with folder() as directory, _command_line():
        Image.new("RGB", (8, 8)).save(directory / "a.png")
        (directory / "here").mkdir()
        before = os.getcwd()
        os.chdir(directory / "here")
        try:
            status = main(["saliency", str(directory / "a.png"), "--text", "a cat"])
        finally:
            os.chdir(before)
        left = sorted(path.name for path in (directory / "here").iterdir())
    return f"status {status}, {left}", status == 0 and not left
