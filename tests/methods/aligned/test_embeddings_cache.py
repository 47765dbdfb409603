import multiprocessing
import sys

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned import embeddings
from torchnle.methods.aligned.embeddings import embed_cached

PHRASES = [f"a w{index}" for index in range(70)]


class Counting(TextEncoder):
    """A tiny real encoder that counts what it encodes."""

    encoded = 0

    def encode(self, texts, batch_size=64):
        self.encoded += len(texts)
        return super().encode(texts, batch_size)


def encoder(reference="org/tiny", seed=0, **options):
    torch.manual_seed(seed)
    words = {word: i for i, word in enumerate(["<s>", "a", *(f"w{index}" for index in range(70))])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<s>")
    config = BertConfig(vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    return Counting(BertModel(config), fast, reference=reference, **{"max_length": 8, **options})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "HF_HOME", str(tmp_path))
    return tmp_path / "torchnle" / "embeddings"


def test_a_second_start_encodes_nothing(folder):
    first, second = encoder(), encoder()
    vectors = embed_cached(first, PHRASES)
    torch.testing.assert_close(vectors, first.encode(PHRASES))
    assert torch.equal(embed_cached(second, PHRASES), vectors)
    assert second.encoded == 0
    assert [file.suffix for file in folder.iterdir()] == [".safetensors"]


@pytest.mark.parametrize(
    ("other", "phrases"),
    [
        (encoder("org/other"), PHRASES),
        (encoder(seed=1), PHRASES),  # the same reference, such as a folder, with other weights
        (encoder(pooling="cls"), PHRASES),
        (encoder(max_length=2), PHRASES),
        (encoder(), PHRASES[::-1]),
        (encoder(), [*PHRASES[:-2], f"{PHRASES[-2]}\0{PHRASES[-1]}"]),
    ],
)
def test_another_encoder_or_order_is_another_key(folder, other, phrases):
    embed_cached(encoder(), PHRASES)
    other.encoded = 0
    torch.testing.assert_close(embed_cached(other, phrases), other.encode(phrases))
    assert other.encoded == 2 * len(phrases)
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b"garbage", "cut", "zeros", "narrow", "folder"])
def test_a_damaged_file_is_encoded_anew(folder, damage):
    first, second = encoder(), encoder()
    vectors = embed_cached(first, PHRASES)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    if damage == "cut":
        file.write_bytes(whole[:-5])
    elif damage == "zeros":
        file.write_bytes(whole[:-4] + torch.tensor([torch.nan]).numpy().tobytes())
    elif damage == "narrow":
        file.write_bytes(embeddings.save({"vectors": vectors[:, :3].contiguous()}))
    elif damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(damage)
    torch.testing.assert_close(embed_cached(second, PHRASES), vectors)
    assert second.encoded == len(PHRASES)
    if damage != "folder":
        assert file.read_bytes() == whole
    assert [each.name for each in folder.iterdir()] == [file.name]  # no scratch file is left


def test_a_folder_that_cannot_be_written_is_passed_over(folder):
    folder.parent.mkdir(parents=True)
    folder.write_text("a file is in the way")
    first = encoder()
    torch.testing.assert_close(embed_cached(first, PHRASES), first.encode(PHRASES))


def test_a_full_disk_leaves_nothing_behind(folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(embeddings.os, "replace", full)
    embed_cached(encoder(), PHRASES)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("given", [encoder(""), encoder()])
def test_few_phrases_and_encoders_without_a_reference_are_not_kept(folder, given):
    embed_cached(given, PHRASES if not given.reference else PHRASES[:20])
    assert not folder.exists()


def test_blocks_make_the_whole_and_show_progress(folder, monkeypatch, capsys):
    whole = encoder().encode(PHRASES)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(embeddings, "BLOCK", 32)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    torch.testing.assert_close(embed_cached(encoder(), PHRASES), whole)
    assert "encoding phrases" in capsys.readouterr().err


def _fill(home, gate, answers):
    embeddings.HF_HOME = home
    torch.set_num_threads(1)
    given = encoder()
    gate.wait()
    answers.put(embed_cached(given, PHRASES).tolist())


def test_two_processes_at_once(folder, tmp_path):
    spawn = multiprocessing.get_context("fork")
    gate, answers = spawn.Barrier(2), spawn.Queue()
    workers = [spawn.Process(target=_fill, args=(str(tmp_path), gate, answers)) for _ in range(2)]
    for worker in workers:
        worker.start()
    expected = encoder().encode(PHRASES)
    for _ in workers:
        torch.testing.assert_close(torch.tensor(answers.get(timeout=60)), expected)
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
    assert len(list(folder.iterdir())) == 1
    later = encoder()
    embed_cached(later, PHRASES)
    assert later.encoded == 0
