"""Which rows of the table `candidates` are candidates: those on the list of a score."""

import pandas as pd


def is_control(candidates: pd.DataFrame) -> pd.Series:
    """Whether only the random control lists a sample: bool Series, one per row.

    >>> is_control(pd.DataFrame({"best_rank": [1, None]})).tolist()
    [False, True]
    """
    return candidates["best_rank"].isna()


def listed(candidates: pd.DataFrame) -> pd.DataFrame:
    """The candidates: rows on the list of a score. Counts of a run leave all other rows out.

    >>> listed(pd.DataFrame({"sample_id": ["a", "b"], "best_rank": [1, None]}))["sample_id"].item()
    'a'
    """
    return candidates[~is_control(candidates)]
