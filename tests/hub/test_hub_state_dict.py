import pickle

import pytest
import torch
from safetensors.torch import save_file

from torchnle.hub import load_state_dict


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
def test_pickled_weights_are_read_exactly(tmp_path, suffix):
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    torch.save(model.state_dict(), tmp_path / f"model{suffix}")
    state = load_state_dict(tmp_path / f"model{suffix}")
    assert list(state) == list(model.state_dict())
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


def test_safetensors_by_file_and_by_folder(tmp_path):
    save_file({"w": torch.tensor([[1.5]]).bfloat16()}, tmp_path / "a.safetensors")
    for path in (tmp_path, tmp_path / "a.safetensors"):
        state = load_state_dict(path)
        assert state["w"].dtype == torch.bfloat16
        assert state["w"].item() == 1.5


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, protocol):
    torch.save({"w": Trap(tmp_path / "ran")}, tmp_path / "zip.pth", pickle_protocol=max(protocol, 2))
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Trap(tmp_path / "ran"), protocol=protocol))
    for name in ("zip.pth", "plain.pth"):
        with pytest.raises(ValueError, match=rf"{name} holds more than tensors.*refused"):
            load_state_dict(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "named"), [({"state_dict": {"w": torch.ones(1)}}, "state_dict"), ([1], "list")]
)
def test_nothing_is_unwrapped(tmp_path, content, named):
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=f"is not a state dict .*holds .*{named}"):
        load_state_dict(tmp_path / "model.pt")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_or_empty_file(tmp_path, suffix):
    file = tmp_path / f"model{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)({"w": torch.ones(1000)}, file)
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], b""):
        file.write_bytes(content)
        with pytest.raises(ValueError, match="is not a whole"):
            load_state_dict(file)


def test_no_file_several_files_and_other_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_state_dict(tmp_path / "absent.pth")
    with pytest.raises(ValueError, match="holds 0 weight files"):
        load_state_dict(tmp_path)
    for name in ("a.pt", "b.bin", "c.npz"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"holds 2 weight files \(a.pt, b.bin\)"):
        load_state_dict(tmp_path)
    with pytest.raises(ValueError, match=r"c\.npz does not end in \.bin, \.pt, \.pth, \.safetensors"):
        load_state_dict(tmp_path / "c.npz")
