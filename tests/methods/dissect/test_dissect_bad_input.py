"""Every bad input that a user can give `dissect`, a line each: the message, and what is left standing."""

import errno
import json
import logging
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from colour_world import PHRASES, backbone, scenes
from test_dissect import SMALL, World, colour_units, run

from torchnle.methods.dissect.candidates.captioners import TranslatorCaptioner
from torchnle.methods.dissect.candidates.proposers import Proposal
from torchnle.methods.dissect.candidates.served_chat import ServedChat
from torchnle.methods.dissect.candidates.summarisers import ChatSummariser, Extractive
from torchnle.methods.dissect.proposals import ProposalLog
from torchnle.methods.dissect.report.pages import write_report
from torchnle.methods.dissect.run import DissectSettings, dissect

ALONE = DissectSettings(correlated=0)


def labelled(source, **options):
    given = {"translator": World(), "evidence_layer": "coarse", "units": colour_units(), "probing": SMALL}
    world = backbone()
    return dissect(world.model, "coarse", source, transform=world.preprocess, **given | options)


def saved(folder, count=12):
    folder.mkdir()
    for number, scene in enumerate(scenes(count)[:]):
        scene.image.save(folder / f"{number:02}.png")
    return folder


@contextmanager
def server(answer):
    """A chat server whose every answer is `answer`; None = it never answers."""
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            if answer is None:
                done.wait(5)
                return
            body = json.dumps({"choices": [{"message": {"content": answer}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *parts):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield ServedChat(
            f"http://127.0.0.1:{running.server_port}/v1",
            "m",
            timeout=30.0 if answer is not None else 0.05,
            retries=0,
        )
    finally:
        done.set()
        running.shutdown()
        running.server_close()


def test_an_empty_probing_set(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no picture")
    with pytest.raises(ValueError, match=r"probing set is empty.*[Pp]ass at least one image"):
        labelled(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"probing set is empty"):
        labelled([])
    with pytest.raises(ValueError, match=r"not a folder"):
        labelled(tmp_path / "nowhere")


def test_fewer_images_than_exemplars(tmp_path):
    with pytest.raises(ValueError, match=r"3 readable images, fewer than the k=4.*k=3"):
        labelled(saved(tmp_path / "few", 3))


def test_unreadable_images_are_left_out_and_too_many_are_said(tmp_path):
    folder = saved(tmp_path / "some", 12)
    (folder / "03.png").write_bytes(b"no picture")
    (folder / "05.png").write_bytes((folder / "05.png").read_bytes()[:60])
    found = labelled(folder)
    assert {3, 5}.isdisjoint(image for label in found for image in label.images)
    assert [label.text for label in found[:4]] == list(PHRASES)
    for file in sorted(folder.iterdir())[:9]:
        file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"3 readable images, fewer than the k=4"):
        labelled(folder)
    for file in folder.iterdir():
        file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"none of the 12 images.*can be read"):
        labelled(folder)


def test_a_dead_unit_is_said_and_asks_nobody():
    calls = []

    class Counted(Extractive):
        def __call__(self, captions, count, seed=0):
            calls.append(captions)
            return super().__call__(captions, count, seed)

    found = run(summariser=Counted(), settings=ALONE)
    assert len(calls) == 4
    dead = found[4]
    assert (dead.dead, dead.text, dead.reliable, dead.candidates) == (True, "", False, ())
    assert "never became active" in dead.note


def test_a_captioner_that_says_nothing():
    found = run(captioner=lambda shown: ["  "] * len(shown), settings=ALONE)
    assert all(label.text == "" and not label.reliable for label in found)
    assert all("said nothing of any exemplar" in label.note for label in found[:4])


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "no answer within 0.05 s"),
        ("12345 ...", "nothing that is a label"),
        ("", "nothing that is a label"),
    ],
)
def test_a_summariser_that_times_out_or_answers_nonsense(answer, why):
    plain = run(settings=ALONE)
    with server(answer) as chat:
        found = run(summariser=ChatSummariser(chat, simplify=False), settings=ALONE, only=[0, 1])
    assert [label.text for label in found] == [label.text for label in plain[:2]]
    assert all(why in label.note for label in found)


def test_a_full_disk_while_probing_and_asking_costs_no_label(tmp_path, monkeypatch, caplog):
    whole = run(cache=tmp_path / "good")

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("torchnle.methods.dissect.probing.store.Store._replace", full)
    monkeypatch.setattr("torchnle.methods.dissect.proposals.Path.open", full)
    with caplog.at_level(logging.WARNING):
        found = run(cache=tmp_path / "full")
    assert list(found) == list(whole)
    log = caplog.text
    assert "probing state was not saved" in log
    assert "candidates of unit 0 were not kept" in log
    assert log.count("No space left") == 2  # each kind once, and not a line a unit


def test_a_full_disk_under_the_report_leaves_no_half_page(tmp_path, monkeypatch):
    found = run()

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("torchnle.views.html.os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(found, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_line_of_candidates_is_asked_for_again(tmp_path, caplog):
    file = tmp_path / "log.jsonl"
    log = ProposalLog(file)
    log.get(0, lambda: Proposal(("a hen",)))
    log.get(1, lambda: Proposal(("a duck",)))
    first, second = file.read_text().splitlines()
    file.write_text(f"{first}\n{second[:9]}{second}\n")  # two processes, one killed while it wrote
    again = ProposalLog(file)
    assert again.get(0, lambda: Proposal(("a goose",))).labels == ("a hen",)
    assert again.get(1, lambda: Proposal(("a goose",))).labels == ("a goose",)
    assert "is damaged" in caplog.text


def test_a_captioner_that_lacks_its_evidence_is_said():
    with pytest.raises(ValueError, match=r"no evidence feature.*captioner that reads pictures"):
        TranslatorCaptioner(World(), "coarse")([])
