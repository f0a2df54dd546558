"""Train, and the small actions around it.

python -m train tokenizer=true data=DIR out=DIR vocab_size=512
torchrun --nproc-per-node 1 -m train experiment=nano_stage1 data=DIR run=DIR tokenizer=DIR
torchrun --nproc-per-node 4 -m train experiment=nano_stage2 data=DIR run=DIR tokenizer=DIR init=RUN_STAGE1
python -m train experiment=paper_stage2 plan=true          # the stage table, no processes, no GPU
python -m train experiment=nano_stage2 data_report=true data=DIR tokenizer=DIR
python -m train export=true run=RUN_STAGE2 out=DIR
python -m train --help
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import time
from typing import NoReturn

from data_engine.command_line import run
from data_engine.errors import ConfigError
from train.config import TrainConfig

RANK = int(os.environ.get("RANK", "0"))


def main(config: TrainConfig) -> int | None:
    """One run or one action; returns the exit status."""
    from train import actions

    if config.trains_tokenizer:
        print(actions.make_tokenizer(config))
    elif config.export:
        print(actions.export(config, say=print))
    elif config.plan:
        print(actions.plan(config))
    elif config.data_report:
        print(actions.report_data(config))
    else:
        return _train(config)
    return 0


def _train(config: TrainConfig) -> int:
    from train.prepare import prepare

    # Texts are tokenised ahead in a thread; a node's ranks would otherwise all take all its cores for that.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if config.compile:
        os.environ["TORCHDYNAMO_DISABLE"] = "0"  # the engine would switch the compiler off on CPUs
    prepared = prepare(config)
    # DeepSpeed takes seconds to import: after what can be refused has been refused.
    from train.agreement import DisagreementError
    from train.data.damage import DamagedDataError
    from train.loop import train
    from train.saver import CheckpointError
    from train.step_report import BrokenStepError

    try:
        return train(prepared)
    except (ConfigError, DamagedDataError, DisagreementError, BrokenStepError, CheckpointError) as error:
        if RANK > 0:
            _await_rank_0(error)
        sys.stderr.write(f"error: {error}\n")
        return 2


def _await_rank_0(error: Exception) -> NoReturn:
    """Ranks above 0 refuse for the reason of rank 0, which says it, once, and whose end ends them. Who is still there
    after some seconds refuses alone (a directory that is not on this machine), and says so itself."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(5 + 0.5 * int(os.environ.get("LOCAL_RANK", "0")))  # one of a machine, and not all of them
    sys.stderr.write(f"error: rank {RANK} on {platform.node()}: {error}\n")
    sys.exit(2)


if __name__ == "__main__":
    if RANK > 0:
        from data_engine.command_line import compose

        try:
            sys.exit(main(compose(TrainConfig, sys.argv[1:], "train")))
        except ConfigError as refusal:
            _await_rank_0(refusal)
    run(main, TrainConfig, config_name="train", description=__doc__ or "")
