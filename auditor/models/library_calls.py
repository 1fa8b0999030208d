"""Calls into transformers and peft: hide their warnings, and turn their errors into a sentence."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from transformers.utils import logging as transformers_logging

from auditor.errors import ModelError, in_short
from auditor.models.device import out_of_memory


def silence_logs() -> None:
    """Turn off the progress bars of transformers, and all log messages but errors."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress warnings: peft uses deprecated features of transformers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def failing_with(
    sentence: Callable[[str], str], kind: type[ModelError] = ModelError
) -> Iterator[None]:
    """Raise any error except a lack of memory as `kind(sentence(the error in short))`."""
    try:
        yield
    except Exception as error:
        if out_of_memory(error):
            raise
        raise kind(sentence(in_short(error))) from None
