"""The command reference, generated from --help: `python -m auditor.cli.reference > docs/cli.md`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from auditor.cli.command import cli

_INTRO = """\
# The command

Generated from `--help` by `make docs`: change the help, not this page. Any option of `audit` can be
set in an audit file (TOML); flags override it.

## Shell completion

Bash, zsh and fish complete verbs, options and file names after this line is in the start-up file
of the shell:

```text
eval "$(_AUDITOR_COMPLETE=bash_source auditor)"    # ~/.bashrc
eval "$(_AUDITOR_COMPLETE=zsh_source auditor)"     # ~/.zshrc
_AUDITOR_COMPLETE=fish_source auditor | source     # ~/.config/fish/config.fish
```

## Interrupting and resuming

Ctrl-C and SIGTERM stop an audit between two steps. The samples and scores that are complete, the
unfinished samples of the current shard and the finished batches of the current scores stay in the
run folder, also with `--workers`; `auditor audit --resume RUN` continues to the same results, byte
for byte. A second Ctrl-C stops at once, and the unfinished work is lost. Samples of a model on a
GPU, of beam search and of Ray workers are kept shard by shard.
"""


def reference() -> str:
    """Every verb's help as one page of Markdown.

    >>> reference().splitlines()[0]
    '# The command'
    """
    parts = [_INTRO]
    for names, command, context in _commands(cli, ("auditor",), None):
        depth = "#" * min(len(names) + 1, 4)
        # The page does not depend on the width of the terminal.
        context.terminal_width = context.max_content_width = 100
        parts.append(f"{depth} {' '.join(names)}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def _commands(
    command: click.Command, names: tuple[str, ...], parent: click.Context | None
) -> Iterator[tuple[tuple[str, ...], click.Command, click.Context]]:
    """A command and all its verbs, in the order of --help."""
    context = click.Context(command, info_name=names[-1], parent=parent, **command.context_settings)
    yield names, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None:
                yield from _commands(below, (*names, name), context)


if __name__ == "__main__":
    print(reference(), end="")
