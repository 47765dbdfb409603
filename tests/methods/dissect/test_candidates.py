"""Captions, summaries, answers of chat models, and what happens when they say nothing or fail."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch
from fakes import LetterTranslator
from PIL import Image
from tiny import make_lm

from torchnle.methods.dissect.candidates import prompts
from torchnle.methods.dissect.candidates.captioners import BankCaptioner, ImageToText, TranslatorCaptioner
from torchnle.methods.dissect.candidates.cleaning import clean_label, clean_labels
from torchnle.methods.dissect.candidates.local_chat import LocalChat
from torchnle.methods.dissect.candidates.proposers import CaptionAndSummarise, Multimodal
from torchnle.methods.dissect.candidates.served_chat import ServedChat
from torchnle.methods.dissect.candidates.summarisers import ChatSummariser, Extractive, parted
from torchnle.methods.dissect.exemplars.exemplar import Exemplar

CAPTIONS = ["a red car", "a car", "a bus", "a red car on grass", "a truck"]


def exemplar(evidence=None):
    return Exemplar(0, 1.0, Image.new("RGB", (12, 12), "red"), evidence=evidence)


@pytest.fixture
def server():
    """An address that gives the answers it is told to: a status and a body, or seconds of silence."""
    seen, answers = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append((self.path, dict(self.headers), body))
            status, text = answers.pop(0) if len(answers) > 1 else answers[0]
            if status == "silence":
                time.sleep(text)
                status, text = 200, "late"
            content = {
                "choices": [{"message": {"content": text}}],
                "usage": {"prompt_tokens": 7, "completion_tokens": 2},
            }
            sent = json.dumps(content if status == 200 else {"error": text}).encode()
            try:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(sent)
            except OSError:
                pass

        def log_message(self, *args):
            pass

    opened = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=opened.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{opened.server_port}/v1", seen, answers
    opened.shutdown()


def test_translator_captions_are_its_descriptions():
    rows = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    translator = LetterTranslator()
    captions = TranslatorCaptioner(translator, "layer")([exemplar(row) for row in rows])
    vocabulary = translator.embed(translator.vocabulary)
    best = (torch.nn.functional.normalize(rows, dim=1) @ vocabulary.T).argmax(1).tolist()
    assert captions == [translator.vocabulary[i] for i in best]
    bank = ["grass", "a red door"]
    chosen = BankCaptioner(translator, "layer", bank)([exemplar(row) for row in rows])
    wanted = (torch.nn.functional.normalize(rows, dim=1) @ translator.embed(bank).T).argmax(1).tolist()
    assert chosen == [bank[i] for i in wanted]
    with pytest.raises(ValueError, match="1 of 2 exemplars have no evidence"):
        TranslatorCaptioner(translator, "layer")([exemplar(rows[0]), exemplar()])


def test_any_image_to_text_model_captions():
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessor

    torch.manual_seed(0)
    lm = make_lm("llama")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    words = {
        "vocab_size": 21,
        "encoder_hidden_size": 16,
        "bos_token_id": 0,
        "sep_token_id": 1,
        "eos_token_id": 1,
    }
    config = BlipConfig(
        text_config={**small, **words, "max_position_embeddings": 64, "pad_token_id": 1},
        vision_config={**small, "image_size": 16, "patch_size": 8},
    )

    class Processor:
        images = BlipImageProcessor(size={"height": 16, "width": 16})

        def __call__(self, images, return_tensors):
            return self.images(images, return_tensors=return_tensors)

        batch_decode = staticmethod(lm.tokenizer.batch_decode)

    captioner = ImageToText(
        BlipForConditionalGeneration(config), Processor(), max_new_tokens=6, min_length=2, batch_size=2
    )
    captions = captioner([exemplar()] * 3)
    assert len(captions) == 3
    assert len(set(captions)) == 1
    assert captions[0].split()


def test_extractive_names_the_commonest_and_what_stands_above():
    labels = Extractive()(CAPTIONS, 5)
    assert labels[0] == "a red car"
    assert any(word in labels for word in ("a motor vehicle", "a vehicle", "a self-propelled vehicle"))
    assert len(labels) == 5
    assert len(set(labels)) == 5
    assert Extractive()(["", " "], 5) == []
    assert Extractive()(["grass"], 3)[0] == "grass"


def test_chat_gets_shuffled_captions_and_commas_are_asked_again():
    chats = []

    def chat(messages, number):
        chats.append(messages)
        return "red things, cars" if len(chats) == 1 else f"Answer: Vehicles {len(chats)}."

    labels = ChatSummariser(chat, simplify=False)(CAPTIONS, 3, seed=4)
    assert labels == ["vehicles 2", "vehicles 3", "vehicles 4"]
    lists = [messages[-1]["content"].splitlines()[1:] for messages in chats]
    assert lists[1] == ["- red things", "- cars"]
    for listed in (lists[0], lists[2], lists[3]):
        assert sorted(listed) == sorted(f"- {caption}" for caption in CAPTIONS)
    assert len({tuple(listed) for listed in lists}) == 4
    simplified = []
    ChatSummariser(lambda messages, number: simplified.append(messages) or "x")(CAPTIONS, 2)
    assert sum(len(messages) == 1 for messages in simplified) == 5
    assert ChatSummariser(lambda messages, number: "I'm sorry, I cannot.", simplify=False)(CAPTIONS, 2) == []


def test_superclasses_are_asked_for_and_read():
    (text,) = {prompts.summarise(CAPTIONS, ("corn", "grapes"))[-1]["content"]}
    assert "corn, grapes" in text
    assert parted("green rows (Corn)", ("corn", "grapes")) == ("green rows", "corn")
    assert parted("green rows (water)", ("corn", "grapes")) == ("green rows (water)", None)


def test_cleaning():
    for answer, label in {
        "Red cars.": "red cars",
        '"Red cars"': "red cars",
        "2) red cars\nand more": "red cars",
        "Sure, here is the label: Red cars": "red cars",
        "UK post boxes": "UK post boxes",
        "": None,
        "12345": None,
        "one two three four five six seven eight nine": None,
        "cars cars cars cars": None,
    }.items():
        assert clean_label(answer) == label, answer
    assert clean_labels(["Floral graphics", "floral graphics."]) == [
        "floral graphics",
        "floral graphics background",
    ]


def test_local_chat_continues_the_template_of_its_tokenizer():
    lm = make_lm("llama")
    with pytest.raises(ValueError, match="chat template"):
        LocalChat(lm)
    lm.tokenizer.chat_template = "{% for m in messages %}<s> {{ m['content'] }} {% endfor %}a "
    messages = [{"role": "user", "content": "the cat"}]
    greedy = LocalChat(lm, temperature=0, max_new_tokens=4)
    ids = lm.tokenizer("<s> the cat a ", add_special_tokens=False)["input_ids"]
    assert greedy._ids(messages) == ids[1:]
    wanted = lm.model.generate(torch.tensor([ids]), max_new_tokens=4, do_sample=False, pad_token_id=1)[
        0, len(ids) :
    ]
    assert greedy(messages, 0) == lm.tokenizer.decode(wanted, skip_special_tokens=True).strip()
    warm = LocalChat(lm, temperature=3.0, max_new_tokens=6)
    answers = [warm(messages, number) for number in range(6)]
    assert answers == [warm(messages, number) for number in range(6)]
    assert len(set(answers)) > 1


def test_served_chat_asks_retries_and_counts(server, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    address, seen, answers = server
    chat = ServedChat(address, "tiny", key="secret", pause=0.01)
    answers[:] = [(429, "busy"), (503, "busy"), (200, "Red cars.")]
    assert chat([{"role": "user", "content": "hello"}], 3) == "Red cars."
    path, headers, body = seen[-1]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer secret"
    assert (body["model"], body["seed"], body["messages"]) == (
        "tiny",
        3,
        [{"role": "user", "content": "hello"}],
    )
    assert len(seen) == 3
    assert (chat.usage.calls, chat.usage.prompt_tokens, chat.usage.answer_tokens) == (1, 7, 2)
    assert "secret" not in repr(chat)
    answers[:] = [(401, "who are you")]
    with pytest.raises(ConnectionError, match="401"):
        chat([], 0)
    assert len(seen) == 4
    answers[:] = [(500, "down")]
    with pytest.raises(ConnectionError, match="3 tries"):
        ServedChat(address, "tiny", retries=2, pause=0.01)([], 0)


def test_a_summariser_that_times_out_is_replaced_and_said(server):
    address, _, answers = server
    answers[:] = [("silence", 0.3)]
    chat = ServedChat(address, "tiny", timeout=0.05, retries=1, pause=0.01)
    with pytest.raises(TimeoutError, match="2 tries"):
        chat([], 0)
    found = CaptionAndSummarise(lambda exemplars: CAPTIONS, ChatSummariser(chat, simplify=False))([], 3, 0)
    assert found.labels == tuple(Extractive()(CAPTIONS, 3))
    assert "no answer within 0.05 s" in found.note


def test_nonsense_and_silence_are_said():
    nonsense = ChatSummariser(lambda messages, number: "!!! 123", simplify=False)
    found = CaptionAndSummarise(lambda exemplars: CAPTIONS, nonsense)([], 3, 0)
    assert found.labels
    assert "nothing that is a label" in found.note
    silent = CaptionAndSummarise(lambda exemplars: ["", " "], Extractive())([], 3, 0)
    assert silent.labels == ()
    assert "said nothing" in silent.note
    assert CaptionAndSummarise(lambda exemplars: CAPTIONS, None)([], 2, 0).labels == ("a red car", "a car")


def test_one_multimodal_model_sees_the_exemplars(server):
    address, seen, answers = server
    answers[:] = [(200, "1. Red squares\n2. Squares\n3. I'm sorry")]
    found = Multimodal(ServedChat(address, "tiny"))([exemplar(), exemplar()], 5, 0)
    assert found.labels == ("red squares", "squares")
    parts = seen[-1][2]["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["text", "image_url", "image_url"]
    assert parts[1]["image_url"]["url"].startswith("data:image/jpeg;base64,")
