"""Every shipped configuration compiles for Ampere and Hopper GPUs, on a machine that has none.

The machine code is taken apart: no register may be spilled to memory, shared memory must fit, and matrix
products must run on the matrix units, fed by asynchronous copies.
"""

import inspect as introspection
import re
import subprocess
from pathlib import Path

import pytest
import torch

triton = pytest.importorskip(
    "triton", reason="triton is not installed: pip install 'torchnle[triton]' to compile the kernels."
)
from torchnle_kernels import linear_lse_mu_triton, linear_lse_triton, short_decode_attention_triton  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

pytestmark = pytest.mark.skipif(
    "constexprs" not in introspection.signature(ASTSource).parameters,
    reason="compiling ahead of time needs triton 3.3 or later.",
)

TYPES = {torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.float32: "*fp32"}
SHARED = {80: 163 * 1024, 90: 227 * 1024}
MATRIX_UNIT = {80: "HMMA", 90: "HGMMA"}
INPUTS = {"h", "weight", "bias", "out", "q", "k", "v"}
COUNTS = {"rows", "outputs", "slices", "blocks"}  # any number; widths and strides are multiples of 16

linear_lse = linear_lse_triton._slice_kernel
exponentials = linear_lse_mu_triton._exp_kernel
attention = short_decode_attention_triton._kernel


def compile_for(arch, kernel, dtype, constants, warps, stages):
    """Compile ahead of time with the hints that the launcher would find; return the result and its code."""
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else _type(kernel, name, dtype) for name in names}
    hinted = [n for n in names if n not in constants and signature[n] != "fp32" and not _is_count(kernel, n)]
    source = ASTSource(
        kernel,
        signature,
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in hinted},
    )
    options = {"num_warps": warps, "num_stages": stages}
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)


def _is_count(kernel, name):
    return name in COUNTS and kernel is not attention


def _type(kernel, name, dtype):
    if name in INPUTS:
        return TYPES[dtype]
    if kernel is attention and name in ("lengths", "rows"):
        return "*i64"
    if name.startswith("index"):
        return "*i64" if name == "index_out" and kernel is linear_lse_triton._merge_kernel else "*i32"
    if _is_count(kernel, name) or name.startswith("stride") or name == "width":
        return "i32"
    return "fp32" if name == "scale" else "*fp32"


def inspect(compiled, folder: Path):
    """The resources and the instructions, from the disassembler that comes with Triton."""
    cubin = folder / "kernel.cubin"
    cubin.write_bytes(compiled.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    usage, code = (
        subprocess.run([tool, flag, cubin], capture_output=True, text=True, check=True).stdout
        for flag in ("-res-usage", "-sass")
    )
    assert "EXIT" in code
    assert int(re.search(r"STACK:(\d+)", usage)[1]) == 0, "the kernel uses a stack in memory"
    assert not re.findall(r"\b(?:LDL|STL)\b", code), "registers are spilled to memory"
    return code


def head(dtype, **switches):
    tiles = linear_lse_triton.TILES[dtype]
    constants = {"HAS_BIAS": True, "WIDTH": 768, "UPCAST": False, **tiles.constants, **switches}
    return constants, tiles.warps, tiles.stages


CASES = [
    *((linear_lse, dtype, {"NEED_ARGMAX": True, "WIDTH": width}) for dtype in TYPES for width in (576, 600)),
    *((exponentials, dtype, {"AGAIN": again}) for dtype in TYPES for again in (False, True)),
]


@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize(("kernel", "dtype", "switches"), CASES)
def test_matrix_products(arch, kernel, dtype, switches, tmp_path):
    chosen = {"TILES_PER_SLICE": linear_lse_triton._TILES_PER_SLICE}
    if kernel is exponentials:
        tiles = linear_lse_triton.TILES[dtype]
        blocks = triton.next_power_of_2(triton.cdiv(linear_lse_mu_triton._CHUNK, tiles.outputs))
        chosen = {"LAG": linear_lse_mu_triton._LAG[dtype], "BLOCK_B": blocks}
    constants, warps, stages = head(dtype, **chosen, **switches)
    compiled = compile_for(arch, kernel, dtype, constants, warps, stages)
    code = inspect(compiled, tmp_path)
    assert compiled.metadata.shared <= SHARED[arch]
    assert re.findall(rf"\b{MATRIX_UNIT[arch]}\.", code), "no matrix-unit instruction"
    assert "LDGSTS" in code, "tiles are not copied asynchronously"


@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize(
    ("dtype", "keys", "width", "group", "indirect"),
    [
        (torch.bfloat16, 32, 64, 3, True),
        (torch.float16, 64, 64, 1, False),
        (torch.float32, 64, 128, 8, True),
        (torch.bfloat16, 64, 256, 4, True),
    ],
)
def test_attention(arch, dtype, keys, width, group, indirect, tmp_path):
    blocks = {"BLOCK_L": keys, "BLOCK_D": width}
    constants = {"GROUP": group, "HAS_ROWS": indirect, **blocks}
    constants |= {} if indirect else {"rows": None}
    warps = short_decode_attention_triton.warps(**blocks)
    compiled = compile_for(arch, attention, dtype, constants, warps, 1)
    inspect(compiled, tmp_path)
    assert compiled.metadata.shared <= 16 * 1024


@pytest.mark.parametrize("arch", [80, 90])
def test_merging(arch, tmp_path):
    merge, fold = linear_lse_triton._merge_kernel, linear_lse_mu_triton._fold_kernel
    inspect(compile_for(arch, merge, None, {"NEED_ARGMAX": True, "BLOCK_S": 1024}, 1, 3), tmp_path)
    constants = {"LAG": 60.0, "BLOCK_B": 64, "BLOCK_D": 4096}
    inspect(compile_for(arch, fold, None, constants, 4, 3), tmp_path)


def test_spills_would_be_seen(tmp_path):
    """The check itself: tiles that are known to be too large."""
    constants, _, stages = head(torch.bfloat16, NEED_ARGMAX=True, TILES_PER_SLICE=3, BLOCK_V=256)
    compiled = compile_for(80, linear_lse, torch.bfloat16, constants, 4, stages)
    with pytest.raises(AssertionError, match=r"stack in memory|spilled"):
        inspect(compiled, tmp_path)
