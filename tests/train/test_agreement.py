"""Ranks that should do the same and do not are noticed, and the sentence says which."""

from __future__ import annotations

import pytest

from train.agreement import PLAN, RECEIVED, SENT, DisagreementError, compare


def table(stages: int, replicas: int) -> list[list[int]]:
    """What ranks report when everything is right: rank = stage * replicas + replica."""
    rows = [[0] * 6 for _ in range(stages * replicas)]
    for replica in range(replicas):
        rows[replica][PLAN] = 77
        rows[replica][SENT] = rows[(stages - 1) * replicas + replica][RECEIVED] = 1000 + replica
    return rows


@pytest.mark.parametrize(("stages", "replicas"), [(1, 1), (1, 3), (4, 1), (4, 3)])
def test_every_kind_of_disagreement_is_noticed(stages: int, replicas: int) -> None:
    compare(5, table(stages, replicas), replicas)
    last = (stages - 1) * replicas
    for replica in range(replicas):
        lost = table(stages, replicas)
        lost[last + replica][RECEIVED] += 1
        with pytest.raises(DisagreementError, match=f"step 5: the last stage of pipeline {replica} did not"):
            compare(5, lost, replicas)
        if replica:
            other = table(stages, replicas)
            other[replica][PLAN] += 1
            with pytest.raises(DisagreementError, match=f"step 6: data-parallel rank {replica} has planned"):
                compare(5, other, replicas)


def test_micro_batches_in_another_pipeline_are_noticed() -> None:
    crossed = table(2, 2)
    crossed[2][RECEIVED], crossed[3][RECEIVED] = crossed[3][RECEIVED], crossed[2][RECEIVED]
    with pytest.raises(DisagreementError, match="pipeline 0"):
        compare(1, crossed, 2)
