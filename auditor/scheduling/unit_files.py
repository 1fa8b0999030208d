"""Configuration for external schedulers: systemd, cron and GitHub Actions."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import jinja2

from auditor.scheduling.cron import Cron


def unit(kind: str, file: str, cron: Cron, *, folder: Path, more: tuple[str, ...] = ()) -> str:
    """The configuration of systemd, cron or github-actions, as text.

    It runs `auditor schedule FILE --once` in `folder` (paths in the file are relative to it), with
    the options in `more`. The command runs what is due and exits.

    >>> from auditor.scheduling.cron import parse_cron
    >>> cron = parse_cron("0 3 * * 1", "UTC")
    >>> unit("cron", "a.toml", cron, folder=Path("/srv")).splitlines()[-1][:22]
    '0 3 * * 1 cd /srv && /'
    """
    zone = ("--timezone", cron.zone_name) if cron.zone_name else ()
    plain = ("schedule", file, "--once", "--cron", cron.line)
    words = (sys.executable, "-P", "-m", "auditor", *plain, *zone, *more)
    name = re.sub(r"[^A-Za-z0-9]+", "-", Path(file).stem).strip("-") or "audit"
    if kind == "github-actions":  # runs in UTC
        command = shlex.join(["auditor", *plain, *more, "--timezone", "UTC"])
    else:
        log = shlex.quote(f"auditor-{name}.log")
        command = f"cd {shlex.quote(str(folder))} && {shlex.join(words)} >> {log} 2>&1"
    environment = jinja2.Environment(  # noqa: S701 -- not HTML
        loader=jinja2.PackageLoader("auditor.scheduling"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"percent": _percent, "systemd_word": _systemd_word}
    return environment.get_template(f"{kind}.j2").render(
        name=name,
        file=file,
        folder=str(folder),
        words=words,
        command=command,
        line=cron.line,
        zone=cron.zone_name,
        calendars=cron.calendars(),
    )


def _systemd_word(word: str) -> str:
    """A word of ExecStart, quoted if necessary."""
    plain = _percent(word).replace("$", "$$")
    if re.fullmatch(r"[A-Za-z0-9_@%+=:,./$-]+", plain):
        return plain
    escaped = plain.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _percent(text: str) -> str:
    """Double the percent signs, which systemd reads as specifiers."""
    return text.replace("%", "%%")
