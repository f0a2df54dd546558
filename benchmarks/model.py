"""The model's speed and memory on CPU, beside other ways of computing the same thing.

    OMP_NUM_THREADS=2 python benchmarks/model.py [part=experts,sam,head,build,disk] [rounds=3]

experts  decoder of 1 dense + 3 mixture-of-experts layers against transformers' class, the same weights in all
sam      one global attention block at 1024 px against the dense relative-position bias
head     next-token loss of 8,192 tokens over 129,280 words against plain logits (fp32, as all here)
build    the 3B model on the meta device
disk     writing and reading the 3B checkpoint in bf16; takes 7 GB in the temporary directory

What is compared runs in turns, and the fastest of the rounds counts. Memory is the growth of the resident set's
peak in a process of its own. Bars: issue 3.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PARTS = ("experts", "sam", "head", "build", "disk")
SAM_SIDE, SAM_HIDDEN, SAM_HEADS = 64, 768, 12
HEAD_TOKENS, HEAD_HIDDEN, HEAD_WORDS = 8192, 1280, 129280


def fastest_in_turns(functions: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Seconds of the fastest of `rounds` calls of each, interleaved, after one call of each that does not count."""
    best = dict.fromkeys(functions, float("inf"))
    for number in range(rounds + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if number:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def child(task: str, *arguments: str) -> dict[str, float]:
    """Run one `measure_*` function of this file in a process of its own; its numbers."""
    command = [sys.executable, __file__, f"measure={task}", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{result.stderr[-3000:]}")
    return json.loads(result.stdout.splitlines()[-1])


class PeakMemory:
    """Growth of this process's anonymous memory while the block runs, in bytes: file pages are not counted."""

    growth = 0

    def __enter__(self) -> PeakMemory:
        self._start = self._anonymous()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.002):
            self.growth = max(self.growth, self._anonymous() - self._start)

    @staticmethod
    def _anonymous() -> int:
        fields = Path("/proc/self/statm").read_text().split()
        return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")


def experts(rounds: int) -> None:
    import torch
    from transformers.models.deepseek_ocr2.configuration_deepseek_ocr2 import DeepseekOcr2TextConfig
    from transformers.models.deepseek_ocr2.modeling_deepseek_ocr2 import DeepseekOcr2TextModel

    from model.attention import packed_layout
    from model.config import DecoderConfig
    from model.decoder import DecoderLayer, RmsNorm, initialise_language

    sizes: dict[str, Any] = {
        "vocab_size": 256, "hidden_size": 640, "intermediate_size": 3424, "num_hidden_layers": 4,
        "num_attention_heads": 10, "n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6,
        "moe_intermediate_size": 448, "max_position_embeddings": 2048,
    }  # fmt: skip
    config = DecoderConfig(**sizes, aux_loss_alpha=0.0)
    layers = torch.nn.ModuleList(DecoderLayer(config, index) for index in range(4))
    norm = RmsNorm(640, config.rms_norm_eps)
    initialise_language(layers, config, torch.Generator().manual_seed(1))
    tokens = 2048
    segments = torch.ones(1, tokens, dtype=torch.int64)
    positions = torch.arange(tokens)[None]
    hidden = torch.randn(1, tokens, 640, generator=torch.Generator().manual_seed(2))
    upstream = torch.randn(1, tokens, 640, generator=torch.Generator().manual_seed(3))

    def ours() -> torch.Tensor:
        layers.zero_grad()
        output, layout = hidden, packed_layout(segments, positions, config)
        for layer in layers:
            output = layer(output, layout)
        output = norm(output)
        output.backward(upstream)
        return output

    def native(implementation: str) -> Callable[[], torch.Tensor]:
        text = DeepseekOcr2TextModel(
            DeepseekOcr2TextConfig(
                **sizes, mlp_layer_types=["dense", *["sparse"] * 3], n_group=1, topk_group=1,
                rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
                rms_norm_eps=config.rms_norm_eps, attn_implementation="sdpa",
                experts_implementation=implementation,
            )
        )  # fmt: skip
        named = dict(text.layers.named_parameters())
        with torch.no_grad():
            for name, parameter in layers.named_parameters():
                named[name].copy_(parameter)

        def run() -> torch.Tensor:
            text.zero_grad()
            output = text(inputs_embeds=hidden, use_cache=False).last_hidden_state
            output.backward(upstream)
            run.gradient = named["2.mlp.experts.down_proj"].grad  # type: ignore[attr-defined]
            return output

        return run

    functions = {"ours": ours, "grouped_mm": native("grouped_mm"), "eager": native("eager")}
    output = ours()
    gradient = layers.get_parameter("2.mlp.experts.down_proj").grad
    assert gradient is not None
    for name in ("grouped_mm", "eager"):
        torch.testing.assert_close(functions[name](), output, rtol=1e-4, atol=1e-4)
        theirs = functions[name].gradient  # type: ignore[attr-defined]
        difference = float((theirs - gradient).norm() / gradient.norm())
        assert difference < 1e-4, f"{name} computes another gradient: {difference:.1e}"
    seconds = fastest_in_turns(functions, rounds)
    print(
        "experts: forward + backward, 1 dense + 3 MoE layers, hidden 640, 64 x 448, top-6, 2,048 tokens, fp32"
    )
    for name, value in seconds.items():
        print(f"  {name:12} {value:7.2f} s   {value / seconds['ours']:5.2f} x ours")


def _sam_attention(kind: str) -> Callable[[], None]:
    import torch

    from model.sam import SamAttention

    torch.manual_seed(1)
    hidden = torch.randn(1, SAM_SIDE, SAM_SIDE, SAM_HIDDEN, requires_grad=True)
    if kind == "ours":
        attention: Any = SamAttention(SAM_HIDDEN, SAM_HEADS, SAM_SIDE)
    else:
        from transformers.models.deepseek_ocr2.configuration_deepseek_ocr2 import DeepseekOcr2SamVisionConfig
        from transformers.models.deepseek_ocr2.modeling_deepseek_ocr2 import (
            DeepseekOcr2SamVisionAttention,
            DeepseekOcr2SamVisionSdpaAttention,
        )

        config = DeepseekOcr2SamVisionConfig(
            hidden_size=SAM_HIDDEN, num_attention_heads=SAM_HEADS, image_size=1024
        )
        classes = {
            "dense sdpa": DeepseekOcr2SamVisionSdpaAttention,
            "dense eager": DeepseekOcr2SamVisionAttention,
        }
        attention = classes[kind](config, window_size=0)

    def run() -> None:
        output = attention(hidden)
        (output[0] if isinstance(output, tuple) else output).square().mean().backward()

    return run


def measure_sam(kind: str) -> dict[str, float]:
    run = _sam_attention(kind)
    with PeakMemory() as memory:
        run()
    return {"bytes": memory.growth}


def sam(rounds: int) -> None:
    kinds = ("ours", "dense sdpa", "dense eager")
    seconds = fastest_in_turns({kind: _sam_attention(kind) for kind in kinds}, rounds)
    memory = {kind: child("sam", kind)["bytes"] for kind in kinds}
    print("sam: forward + backward of one global attention, 1024 px (64 x 64 patches), 12 heads of 64, fp32")
    for kind in kinds:
        print(
            f"  {kind:12} {seconds[kind]:7.2f} s  {memory[kind] / 1e6:7.0f} MB"
            f"   time {seconds['ours'] / seconds[kind]:.2f}, memory {memory['ours'] / memory[kind]:.2f} (ours / this)"
        )


def measure_head(kind: str) -> dict[str, float]:
    import torch
    import torch.nn.functional as F

    from model.loss import next_token_loss

    torch.manual_seed(1)
    hidden = torch.randn(HEAD_TOKENS, HEAD_HIDDEN, requires_grad=True)
    weight = torch.nn.Parameter(torch.randn(HEAD_WORDS, HEAD_HIDDEN) * 0.02)
    weight.grad = torch.zeros_like(weight)
    labels = torch.randint(0, HEAD_WORDS, (HEAD_TOKENS,))
    start = time.perf_counter()
    with PeakMemory() as memory:
        if kind == "ours":
            loss = next_token_loss(hidden, weight, labels) / HEAD_TOKENS
        else:
            loss = F.cross_entropy(F.linear(hidden, weight), labels)
        loss.backward()
    return {"seconds": time.perf_counter() - start, "bytes": memory.growth, "weight": weight.nbytes}


def head(rounds: int) -> None:
    print(
        f"head: loss and gradients of {HEAD_TOKENS} tokens x {HEAD_WORDS} words, hidden {HEAD_HIDDEN}, fp32"
    )
    for kind in ("ours", "plain"):
        found = child("head", kind)
        print(
            f"  {kind:12} {found['seconds']:7.1f} s  {found['bytes'] / 1e6:7.0f} MB, "
            f"of which the weight's own gradient {found['weight'] / 1e6:.0f} MB"
        )


def measure_build() -> dict[str, float]:
    import torch

    from model.config import DeepseekOCRConfig
    from model.deepseek_ocr import DeepseekOCR
    from model.meta import shapes_only

    start = time.perf_counter()
    with shapes_only():
        ocr = DeepseekOCR(DeepseekOCRConfig.preset("deepseek_ocr_3b"))
    seconds = time.perf_counter() - start
    assert all(parameter.device == torch.device("meta") for parameter in ocr.parameters())
    return {"seconds": seconds, "parameters": sum(parameter.numel() for parameter in ocr.parameters())}


def build(rounds: int) -> None:
    found = [child("build") for _ in range(rounds)]
    print("build: the 3B model on the meta device, first use in a fresh process")
    print(f"  {min(f['seconds'] for f in found):.2f} s for {int(found[0]['parameters']):,} parameters")


def measure_disk(directory: str, task: str) -> dict[str, float]:
    import torch

    import model
    from model.config import DeepseekOCRConfig
    from model.deepseek_ocr import DeepseekOCR
    from model.meta import shapes_only

    path = Path(directory) / "checkpoint"
    if task == "write":
        with shapes_only():
            ocr = DeepseekOCR(DeepseekOCRConfig.preset("deepseek_ocr_3b"))
        ocr = ocr.to(torch.bfloat16).to_empty(device="cpu")
        for parameter in ocr.parameters():
            parameter.data.uniform_(-0.02, 0.02)
        start = time.perf_counter()
        with PeakMemory() as memory:
            model.save(ocr, path)
    else:
        start = time.perf_counter()
        with PeakMemory() as memory:
            ocr = model.load(path)
    weights = sum(parameter.nbytes for parameter in ocr.parameters())
    return {"seconds": time.perf_counter() - start, "bytes": memory.growth, "weights": weights}


def disk(rounds: int) -> None:
    print("disk: the 3B checkpoint in bf16")
    with tempfile.TemporaryDirectory() as directory:
        for task in ("write", "read"):
            found = child("disk", directory, task)
            print(
                f"  {task:6} {found['seconds']:6.1f} s, memory grew by {found['bytes'] / 1e9:.2f} GB "
                f"(weights {found['weights'] / 1e9:.2f} GB)"
            )


def main(arguments: list[str]) -> None:
    if arguments and arguments[0].startswith("measure="):
        function = globals()[f"measure_{arguments[0].removeprefix('measure=')}"]
        print(json.dumps(function(*arguments[1:])))
        return
    values = {"part": ",".join(PARTS), "rounds": "3"}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in values or not value:
            sys.exit(f"error: '{argument}' is not understood; write part=... or rounds=N.")
        values[key] = value
    chosen = values["part"].split(",")
    if unknown := [part for part in chosen if part not in PARTS]:
        sys.exit(f"error: part={unknown[0]} is unknown; choose from {', '.join(PARTS)}.")
    for part in chosen:
        globals()[part](int(values["rounds"]))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main(sys.argv[1:])
