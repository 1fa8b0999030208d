"""Tables computed from the frames of a run."""
