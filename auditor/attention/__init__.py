"""Where a model looks while it says a candidate: its attention, as a page of its own.

`weights` asks the model, `page` writes what bertviz draws, with nothing left to load.
"""
