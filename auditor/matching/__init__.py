"""Search training text for verbatim, fuzzy and near-verbatim matches."""
