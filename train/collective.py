"""Texts that ranks tell each other. Every function is collective: all ranks call it together."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from data_engine.errors import ConfigError
from train.deepspeed_engine import TrainingEngine

LONGEST_TEXT = 4096


def gather(engine: TrainingEngine, mine: Tensor) -> Tensor:
    """[ranks, n] on the host: the tensor [n] of every rank."""
    mine = mine.to(engine.device)
    table = [torch.empty_like(mine) for _ in range(engine.world.size)]
    dist.all_gather(table, mine)
    return torch.stack(table).cpu()


def text_of_rank(engine: TrainingEngine, rank: int, mine: str) -> str:
    """The text of one rank, cut to LONGEST_TEXT bytes, on all of them."""
    buffer = torch.zeros(LONGEST_TEXT, dtype=torch.uint8, device=engine.device)
    if engine.world.rank == rank:
        encoded = mine.encode("utf-8")[:LONGEST_TEXT]
        buffer[: len(encoded)] = torch.tensor(list(encoded), dtype=torch.uint8)
    dist.broadcast(buffer, src=rank)
    return bytes(buffer.tolist()).rstrip(b"\0").decode("utf-8", "ignore")


def decided_by_rank_0(engine: TrainingEngine, decide: Callable[[], str]) -> str:
    """A short text, such as a path, that rank 0 finds out and all ranks receive."""
    text = decide() if engine.world.rank == 0 else ""
    if len(text.encode("utf-8")) > LONGEST_TEXT:
        raise ConfigError(f"'{text[:80]}...' is too long; use a shorter path.")
    return text_of_rank(engine, 0, text)


def raise_together(engine: TrainingEngine, failure: str, error: type[Exception]) -> None:
    """Raise `error` on all ranks if any of them has a failure to report, with the sentence of the first one."""
    failed = gather(engine, torch.tensor([int(bool(failure))], dtype=torch.int32))[:, 0].tolist()
    if any(failed):
        raise error(text_of_rank(engine, failed.index(1), failure))
