"""Reading for training: order, mixture, packing and micro-batches, all computed and none of it stored.

The path of a sample, one file per step:

    order.py        position in an epoch -> sample, by a counter-based permutation (no array)
    mixture.py      phases of weights -> exact quota of every dataset in every window of draws
    draws.py        draw t -> (dataset, epoch, sample)
    lengths.py      (dataset, sample) -> tokens, labels and vision cost
    packing.py      window of draws -> packs that fit the micro-batch; pack -> (step, micro-batch, rank)
    stream.py       pack p -> its samples, the same on every rank
    micro_batch.py  pack -> the three tensors that the first pipeline stage receives
    loader.py       step -> this rank's micro-batches, with prefetch, waiting time and state
    report.py       what all of this will be, before a run
"""
