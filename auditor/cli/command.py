"""The `auditor` command: its verbs, errors and exit codes."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import click

import auditor
from auditor.cli.network import add_offline
from auditor.cli.printing import make_printable, say
from auditor.errors import AuditError
from auditor.system.interrupts import interruptible

# Verb -> module, and its line in --help, so that --help imports no module.
VERBS = {
    "audit": ("auditor.cli.audit", "Run a whole audit: sample, score, rank, verify, report."),
    "init": ("auditor.cli.init", "Write an audit file with every setting and its default."),
    "sample": ("auditor.cli.audit", "Run the first stage only: sample text from the model."),
    "score": ("auditor.cli.stages", "Score the samples of a run, or texts of your own."),
    "verify": ("auditor.cli.stages", "Search training text for the candidates of a run."),
    "report": ("auditor.cli.stages", "Rewrite the tables and the report page of a run."),
    "attention": ("auditor.cli.attention", "Show the attention of the model on a candidate."),
    "demo": ("auditor.cli.demo", "Train a small model on known text and audit it."),
    "testbed": ("auditor.cli.demo", "Create the models, corpus and ground truth of the demo."),
    "models": ("auditor.cli.models", "List the models on this machine; add or remove one."),
    "extract": ("auditor.cli.extract", "Measure how much of a known text a model reproduces."),
    "members": ("auditor.cli.members", "Test whether scores separate members from non-members."),
    "references": (
        "auditor.cli.references",
        "Train models on halves of a pool; judge a model by them.",
    ),
    "finetune": ("auditor.cli.finetune", "Fine-tune a model and measure what it memorizes."),
    "compare": ("auditor.cli.compare", "Compare a model before and after training, or two runs."),
    "canaries": ("auditor.cli.canaries", "Insert secrets into text and measure their exposure."),
    "index": ("auditor.cli.index", "Index training text; count and find text in it."),
    "runs": ("auditor.cli.runs", "List the runs in a folder, or plot them over time."),
    "schedule": ("auditor.cli.schedule", "Run an audit file on a schedule."),
    "doctor": ("auditor.cli.models", "Show what this machine has and supports."),
}


class _ClosedPipeError(Exception):
    """The reader of our output has exited, as in `auditor runs | head`."""


@contextmanager
def _allow_closed_pipe() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # click would end with exit code 1
        raise _ClosedPipeError from None


class Verbs(click.Group):
    """A group that imports a verb's module when the verb is used."""

    def make_context(self, *args, **kwargs):
        with _allow_closed_pipe():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx):
        with _allow_closed_pipe():
            return super().invoke(ctx)

    def list_commands(self, ctx):
        return list(VERBS)

    def get_command(self, ctx, name):
        if name not in VERBS:
            return None
        return add_offline(getattr(import_module(VERBS[name][0]), name))

    def resolve_command(self, ctx, args):
        name = args[0] if args else ""
        if name and name not in VERBS and not name.startswith("-"):
            import difflib

            close = difflib.get_close_matches(name, VERBS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"Unknown verb {name!r}.{hint} Verbs: {', '.join(VERBS)}.")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx, formatter):
        with formatter.section("Verbs"):
            formatter.write_dl([(name, line) for name, (_, line) in VERBS.items()])


@click.group(
    cls=Verbs,
    subcommand_metavar="VERB [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(auditor.__version__, "--version", prog_name="auditor")
def cli() -> None:
    """Measure what a language model reproduces of its training data, how much, and how sure.

    Only audit models and data that you are allowed to audit. Exit codes: 0 success, 1 error, 2
    usage error, 3 a gate failed, 130 interrupted (run the same command again to resume).
    """


def run(args: list[str] | None = None) -> int:
    """Run the command; errors are printed as sentences.

    Parameters
    ----------
    args : arguments after `auditor`; by default those of the process

    Returns
    -------
    The exit code: 0 success, 1 error, 2 usage error, 3 a gate failed, 130 interrupted.
    """
    make_printable()
    try:
        # Click returns an exit code for --help and --version, and None for a successful verb.
        with interruptible():
            return cli.main(args=args, prog_name="auditor", standalone_mode=False) or 0
    except click.ClickException as error:
        message = io.StringIO()
        error.show(message)
        say(message.getvalue().rstrip("\n"), err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        # Click raises Abort from the KeyboardInterrupt, whose notes say what was kept.
        notes = getattr(error.__cause__ or error, "__notes__", None)
        say("\nInterrupted. " + " ".join(notes or ["Run the same command again."]), err=True)
        return 130
    except AuditError as error:
        say(f"auditor: {error}", err=True)
        return error.exit_code
    except _ClosedPipeError:
        # Discard what is still buffered; otherwise the interpreter reports an error at exit.
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return 0
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        say(f"auditor: {named}{error.strerror or error}. Check it.", err=True)
        return 1
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        say(
            "auditor: Out of memory. Completed work is kept. Lower --batch-size, or use a machine "
            "with more memory, and run the same command again to resume.",
            err=True,
        )
        return 1


def _is_out_of_memory(error: Exception) -> bool:
    from auditor.models.device import out_of_memory

    return out_of_memory(error)
