"""Reading for training: order, mixture, packing and micro-batches, all computed and none of it stored.

The path of a sample, one file per step:

    order.py        position in an epoch -> sample, by a counter-based permutation (no array)
    block_order.py  the same for spinning disks and object stores: neighbours stay near
    mixture.py      phases of weights and groups -> exact quota of every dataset in every window of draws
    modes.py        phase, task and use -> resolution mode, in exact shares
    draws.py        draw t -> (dataset, epoch, sample, slot of its mode)
    lengths.py      sample -> text tokens and labels, measured in batches, remembered or from a cache file
    costs.py        draw -> tokens, labels, vision budgets and vision load
    splitting.py    texts that are longer than a pack -> stretches
    packing.py      window of draws -> packs that fit the micro-batch; packs of a step -> (rank, micro-batch)
    stream.py       pack p -> its samples, the same on every rank
    reader.py       what is asked of a dataset
    steps.py        packs of a step -> which rank takes which, and what they add up to
    build.py        plan of a pack -> its micro-batch, in a thread or in worker processes (workers.py, prefetch.py)
    micro_batch.py  the three tensors that the first pipeline stage receives (filling.py: samples -> these)
    damage.py       what becomes of samples that cannot be used
    state.py        the few numbers of a checkpoint, and what a changed stream is refused with
    loader.py       step -> this rank's micro-batches, with prefetch, waiting time and state (loader_settings.py)
    report.py       what all of this will be, before a run (report_tally.py: its sums; report_text.py: for a terminal)
"""
