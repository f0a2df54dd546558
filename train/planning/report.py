"""A plan as text for the terminal, and as files: plan.txt, plan.json, timeline.svg."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data_engine.files import atomic_write_json, atomic_write_text
from train.planning.cluster import Speed
from train.planning.memory import GIB
from train.planning.picture import draw
from train.planning.plan import ALONE, Plan
from train.stage_table import count, table_as_text

MIB = 2**20
KINDS = ("weights", "gradients", "optimizer", "activations", "wire", "loss", "total", "recomputed")


def plan_as_text(plan: Plan) -> str:
    """Sections with an empty line between them."""
    sections = [_step(plan), table_as_text(plan.cut.table, plan.cut.load.images), _memory(plan)]
    sections += [_cuts(plan), _implied(plan), _sweep(plan), _messages(plan)]
    return "\n\n".join(section for section in sections if section)


def write_plan(plan: Plan, directory: Path) -> list[Path]:
    """Write the three files, each whole or not at all; returns their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    files = [directory / name for name in ("plan.txt", "plan.json", "timeline.svg")]
    atomic_write_text(files[0], plan_as_text(plan) + "\n")
    atomic_write_json(files[1], plan.as_dict())
    atomic_write_text(files[2], timeline_picture(plan))
    return files


def timeline_picture(plan: Plan) -> str:
    """The timelines of all cuts on one scale of time."""
    unit = "s" if plan.gpu or plan.config.parallel.times else "TFLOP"
    return draw(
        [
            (f"{name}: {entry.timeline.length:.3g} {unit}, busy {entry.timeline.busy:.0%}", entry.timeline)
            for name, entry in plan.speeds.items()
            if name != ALONE
        ],
        unit,
    )


def _step(plan: Plan) -> str:
    config = plan.config
    stages, replicas = config.parallel.pipeline_stages, config.data_parallel
    gpus = f"{stages} pipeline stage{'s' * (stages > 1)} × {replicas} replica{'s' * (replicas > 1)}"
    lines = [
        f"{config.model.architecture}, {config.model.directory or config.model.preset}, {config.precision}: {gpus} = "
        f"{stages * replicas} GPUs",
        f"one step: {replicas} × {config.micro_batches} micro-batches = {plan.sequences_per_step} sequences × "
        f"{config.sequence.tokens:,} tokens = {count(plan.tokens_per_step)} tokens",
    ]
    if plan.gpu:
        memory = f", {plan.gpu.memory_gib:.3g} GiB" if plan.gpu.memory_gib else ""
        lines.append(
            f"{plan.gpu.name}: {plan.gpu.teraflops:g} TFLOP/s dense bf16 at its peak{memory}; a stage that computes "
            f"is taken to reach {config.efficiency:.0%} of the peak (efficiency)"
        )
    return "\n".join(lines)


def _memory(plan: Plan) -> str:
    header = ["GiB of one GPU", *KINDS[:-1], "if recomputed"]
    rows = []
    for row in plan.cut.table:
        gib = row.memory.in_gib()
        numbers = [gib[kind] for kind in KINDS[:-1]] + [gib["total_recomputed"]]
        rows.append([f"stage {row.stage}", *(f"{number:.3g}" for number in numbers)])
    note = (
        "activations: what autograd keeps, micro-batches in flight included, nothing recomputed; if recomputed: the "
        "total with activation\ncheckpointing of every block (forward pass a second time). Leave 1 to 2 GiB for CUDA, "
        "NCCL and kernels' own buffers."
    )
    parts = [row.checkpoint / GIB for row in plan.cut.table]
    note += f"\nA checkpoint takes {sum(parts):.3g} GiB on the disk, of which {max(parts):.3g} are the largest stage's"
    if plan.config.checkpoint.asynchronous:
        note += ", and\nwhat its first replica also needs in its host's memory (checkpoint.asynchronous)"
    return f"{_table(header, rows)}\n{note}."


def _cuts(plan: Plan) -> str:
    known = plan.gpu is not None
    header = ["cut", "balance", "bubble", "busy", "largest GiB", "speed"]
    header += ["s/step", "MFU", "tokens/s per GPU", "tokens/day", "days"] if known else []
    first = next(iter(plan.speeds.values()))
    rows = [
        [
            name + (" *" if name == plan.chosen[0] else ""),
            f"{entry.timeline.balance:.0%}",
            f"{entry.timeline.bubble:.0%}",
            f"{entry.timeline.busy:.0%}",
            _largest(plan, entry),
            f"{first.step_seconds / entry.step_seconds:.2f} x",
            *(_hardware_columns(plan, entry) if known else []),
        ]
        for name, entry in plan.speeds.items()
    ]
    note = (
        f"* this configuration. Speed against {next(iter(plan.speeds))}; bubble: share of the time in which the "
        "slowest stage waits; busy: share of all\nstages' time in which they compute. Optimizer, messages and data are "
        "not in the times; MFU counts forward and backward pass,\nnothing recomputed; !: does not fit the GPU."
    )
    if known:
        note += f" days: for {count(plan.corpus_tokens)} tokens (corpus_tokens, or steps)."
    return f"{_table(header, rows)}\n{note}"


def _largest(plan: Plan, entry: Speed) -> str:
    """Memory of the largest stage, with a mark where it does not fit."""
    gib = max(memory.total for memory in entry.memory) / GIB
    limit = plan.config.gpu_memory or (plan.gpu.memory_gib if plan.gpu else 0.0)
    return f"{gib:.3g}" + ("!" if 0 < limit < gib else "")


def _hardware_columns(plan: Plan, entry: Speed) -> list[str]:
    return [
        f"{entry.step_seconds:.3g}",
        f"{entry.mfu:.1%}",
        f"{entry.tokens_per_second / entry.gpus:,.0f}",
        f"{entry.tokens_per_day / 1e9:,.4g}G",
        f"{plan.corpus_tokens / entry.tokens_per_day:,.3g}",
    ]


def _implied(plan: Plan) -> str:
    implied = plan.implied
    if implied is None:
        return ""
    return (
        f"tokens_per_day={count(plan.config.tokens_per_day)} is {implied['steps_per_day'] / 1e3:.1f}k steps/day, "
        f"{implied['step_seconds']:.2f} s per step, {implied['tokens_per_second_per_gpu']:,.0f} tokens/s per GPU:\n"
        f"with the cut {plan.chosen[0]} a stage that computes then reaches {implied['efficiency']:.1%} of the peak, "
        f"and all GPUs together {implied['mfu']:.1%} (MFU)."
    )


def _sweep(plan: Plan) -> str:
    if not plan.sweep or plan.config.parallel.pipeline_stages == 1:
        return ""
    reference = "paper" if "paper" in plan.cuts else "balanced"
    names = [name for name in plan.sweep[0] if name not in ("images", reference)]
    header = ["images per sequence", *(f"{row['images']:g}" for row in plan.sweep)]
    rows = [[name, *(f"{row[reference] / row[name]:.2f}" for row in plan.sweep)] for name in names]
    note = (
        f"speed against {reference}, estimated from FLOPs; auto: cut for the assumed {plan.cut.load.images:.3g} "
        "images; best: cut for each load anew."
    )
    return f"{_table(header, rows)}\n{note}"


def _messages(plan: Plan) -> str:
    found, micro_batches = plan.messages, plan.config.micro_batches
    lines = []
    for boundary, (forward, backward) in enumerate(zip(found.forward, found.backward, strict=True)):
        lines.append(
            f"stage {boundary} -> {boundary + 1}: {forward / MIB:.1f} MiB forward, {backward / MIB:.1f} MiB of "
            f"gradients back per micro-batch; {micro_batches * (forward + backward) / MIB:,.0f} MiB per step and "
            "replica"
        )
    if plan.config.data_parallel > 1:
        reduced = ", ".join(f"{value / GIB:.2f}" for value in found.reduced)
        gathered = ", ".join(f"{value / GIB:.2f}" for value in found.gathered)
        lines.append(
            f"each GPU sends per step to the other {plan.config.data_parallel - 1} replicas, by stage: gradients "
            f"(fp32) {reduced} GiB, weights {gathered} GiB"
        )
    return "\n".join(lines)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their longest cell, the first one to the left, the others to the right."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
