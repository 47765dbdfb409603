"""Run by test_audit.py in a process of its own: reads hostile files, and prints what Python's audit hook saw.

Standard input answers "y" to whoever asks.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from PIL import Image
from tiny_clip import hugging_face
from tiny_translators import saved_language_model, tiny_translator
from transformers import (
    BertConfig,
    BertModel,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTForImageClassification,
)

from torchnle import LanguageAttribution, Translator, backbones, hub
from torchnle.data import CaptionDataset, CaptionFile, CaptionShards, load_cutouts
from torchnle.images import open_image, open_transparent
from torchnle.language.clip_text import ClipText
from torchnle.language.model import LanguageModel
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.devil.training import run

PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty")
PROGRAMS += ("pty.spawn", "os.startfile")
POSTSCRIPT = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n(PWNED) (w) file closefile\nshowpage\n"
)
EVIL = "import pathlib\npathlib.Path({mark!r}).touch()\nConfig = Model = Tokenizer = None\n"
MAP = dict.fromkeys(("AutoModel", "AutoModelForCausalLM", "AutoModelForImageClassification"), "evil.Model")
MAP |= {"AutoConfig": "evil.Config", "AutoTokenizer": ["evil.Tokenizer", None]}
RECIPE = """
output = "{output}"
[vision]
model = "{vision}"
layers = ["{layer}"]
pretrained = {pretrained}
[language]
model = "{language}"
[network]
width = 16
depth = 1
heads = 2
feedforward = 16
[training]
steps = 1
batch_size = 2
[[data]]
{data}
"""

READS = ("exec", "compile", "open", "import")
Attempt = Callable[[], object]


def is_evil(arguments: tuple[object, ...]) -> bool:
    """Whether one of them is, or comes from, the code that lies in a folder, or a copy of it."""
    named = (getattr(each, "co_filename", each) for each in arguments)
    names = [os.fspath(each) for each in named if isinstance(each, (str, os.PathLike))]
    return any(n.endswith("evil.py") or n.startswith("evil") or "transformers_modules" in n for n in names)


def watch(folder: Path, seen: list[str]) -> None:
    """Write down every program that is started, and every use of a Python file within the folder."""

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in PROGRAMS or (event in READS and arguments[1:2] != ("w",) and is_evil(arguments[:2])):
            seen.append(f"{event} {arguments[0]}")

    sys.addaudithook(hook)


def poison(folder: Path) -> Path:
    (folder / "evil.py").write_text(EVIL.format(mark=str(folder / "PWNED")))
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json"):
        content = json.loads((folder / name).read_text()) if (folder / name).is_file() else {}
        content["auto_map"] = MAP
        (folder / name).write_text(json.dumps(content))
    return folder


def unknown(folder: Path) -> Path:
    """The same folder with an architecture that transformers does not know."""
    for name, key in (("config.json", "model_type"), ("tokenizer_config.json", "tokenizer_class")):
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | {key: "Evil"}))
    return folder


def shards(root: Path) -> Iterator[Attempt]:
    picture = io.BytesIO()
    Image.new("RGB", (4, 4)).save(picture, "PNG")
    members = {"0.png": picture.getvalue(), "0.txt": b"a", "1.jpg": POSTSCRIPT, "1.txt": b"a"}
    with tarfile.open(root / "a.tar", "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    os.environ["GOPEN_REWRITE"] = f"{root}=pipe:touch PWNED;cat {root}"
    os.environ["WDS_EVIL"] = "pipe:touch PWNED"
    names = [
        "pipe:touch PWNED",
        " PIPE:touch PWNED",
        "{a,pipe:touch PWNED}",
        "a.tar::pipe:touch PWNED",
        "${EVIL}",
    ]
    names += [
        "-",
        "gs://b/a.tar",
        "s3://b/a.tar",
        "hf://o/n",
        "ais://b/a.tar",
        "ftp://h/a",
        "http://127.0.0.1:9/a",
    ]
    for name in names:
        yield lambda name=name: CaptionShards(name, cache=root / "cache")
        yield lambda name=name: CaptionShards([str(root / "a.tar"), name], cache=root / "cache")
        yield lambda name=name: recipe(root, data=f'kind = "webdataset"\nshards = {json.dumps(name)}')
    yield lambda: CaptionShards(str(root / "a.tar"))[0]
    yield lambda: CaptionShards(str(root / "a.tar"))[1]


def photographs(root: Path) -> Iterator[Attempt]:
    (root / "photos").mkdir()
    avif = io.BytesIO()
    Image.new("RGB", (4, 4)).save(avif, "AVIF" if ".avif" in Image.registered_extensions() else "PNG")
    for name, content in {
        "a.jpg": POSTSCRIPT,
        "b.png": POSTSCRIPT,
        "c.eps": POSTSCRIPT,
        "d.avif": avif.getvalue()[:99],
    }.items():
        path = root / "photos" / name
        path.write_bytes(content)
        path.with_suffix(".txt").write_text("A hen.")
        yield lambda path=path: open_image(path)
        yield lambda path=path: open_transparent(path)
        yield lambda path=path: CaptionDataset([{"image": Image.open(path), "caption": "a"}])[0]
        yield lambda content=content: CaptionDataset([{"image": {"bytes": content}, "caption": "a"}])[0]
    yield lambda: load_cutouts(root / "photos")
    (root / "photos" / "c.csv").write_text("image,caption\na.jpg,a\n")
    yield lambda: CaptionFile(root / "photos" / "c.csv", strict=False)[0]
    yield lambda: recipe(root, data=f'kind = "file"\nfile = "{root}/photos/c.csv"\nstrict = false')


def folders(root: Path) -> Iterator[Attempt]:
    """Folders of every kind of model; transformers knows the architecture at first, and then does not."""
    lm = saved_language_model(root / "lm")
    lm.reference = str(root / "lm")
    tiny_translator(lm).save_pretrained(root / "translator")
    bert = BertConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    BertModel(bert).save_pretrained(root / "bert")
    PreTrainedTokenizerFast(tokenizer_object=lm.tokenizer.backend_tokenizer).save_pretrained(root / "bert")
    for part in hugging_face("CLIP"):
        part.save_pretrained(root / "clip")
    vit = ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=32
    )
    ViTForImageClassification(vit).save_pretrained(root / "vit")
    for change in (poison, unknown):
        for name in ("lm", "bert", "clip", "vit"):
            change(root / name)
        yield lambda: LanguageModel.from_pretrained(str(root / "lm"))
        yield lambda: TextEncoder.from_pretrained(str(root / "bert"))
        yield lambda: ClipText.from_pretrained(str(root / "clip"))
        for name in ("vit", "clip"):
            for pretrained in (True, False):
                yield lambda name=name, p=pretrained: backbones.load(
                    f"transformers:{root / name}", pretrained=p
                )
        yield lambda: LanguageAttribution.from_backbone(backbones.load(f"transformers:{root / 'clip'}"))
        yield lambda: Translator.from_pretrained(root / "translator")
        yield lambda: recipe(root, language=str(root / "lm"))
        yield lambda: recipe(
            root, vision=f"transformers:{root / 'vit'}", layer="vit.layernorm", pretrained=True
        )
    poison(root / "translator")
    yield lambda: Translator.from_pretrained(root / "translator")


def pickles(root: Path) -> Iterator[Attempt]:
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {root}/PWNED",)

    torch.save({"a": Evil()}, root / "evil.pt")
    (root / "pickled").mkdir()
    (root / "pickled" / "config.json").write_text('{"model_type": "gpt2"}')
    (root / "pickled" / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    yield lambda: hub.load_state_dict(root / "evil.pt")
    yield lambda: LanguageModel.from_pretrained(str(root / "pickled"))


def recipe(root: Path, **changes: object) -> object:
    settings = {"output": root / "run", "vision": "torchvision:squeezenet1_1", "layer": "features.12"}
    settings |= {
        "pretrained": False,
        "language": root / "none",
        "data": 'kind = "shapes"\nlength = 2',
        **changes,
    }
    text = RECIPE.format(**settings | {"pretrained": str(settings["pretrained"]).lower()})
    (root / "recipe.toml").write_text(text)
    return run.train(run.Run.read(root / "recipe.toml"), progress=False)


def outcome(attempt: Attempt) -> str:
    try:
        attempt()
    except (ValueError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return "read"


def main(root: Path) -> None:
    os.chdir(root)
    for warm in (lambda: saved_language_model(root / "warm"), lambda: recipe(root)):
        outcome(warm)
    seen: list[str] = []
    outcomes: list[str] = []
    parts = [part(root) for part in (shards, photographs, folders, pickles)]
    watch(root, seen)
    for part in parts:
        outcomes += map(outcome, part)
    marks = [str(path) for path in root.rglob("PWNED")]
    found = {"seen": list(seen), "marks": marks, "outcomes": outcomes}
    subprocess.run([sys.executable, "-c", ""], check=True)  # what the hook would have seen
    exec(compile((root / "lm" / "evil.py").read_text(), str(root / "lm" / "evil.py"), "exec"), {})
    found["control"] = seen[len(found["seen"]) :]
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
