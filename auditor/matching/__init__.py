"""Search of training text: verbatim, overlapping and near-verbatim matches."""
