"""What other schedulers want installed to run a schedule: systemd, cron, GitHub Actions."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

from auditor.scheduling.cron import Cron

KINDS = ("systemd", "cron", "github-actions")


def unit(kind: str, file: str, cron: Cron, *, folder: Path, words: tuple[str, ...] = ()) -> str:
    """What to install, as text.

    Each runs `auditor schedule FILE --once`, which does what is due and ends: a run that was
    stopped is gone on with, and missed ones are made up once.

    Parameters
    ----------
    kind : systemd, cron or github-actions
    file : the audit file, as it was given
    cron : when
    folder : where the command is to run, which is where the file's paths are understood
    words : more words of the command

    Returns
    -------
    str

    >>> from auditor.scheduling.cron import parse_cron
    >>> cron = parse_cron("0 3 * * 1", "UTC")
    >>> unit("cron", "a.toml", cron, folder=Path("/srv")).splitlines()[-1][:22]
    '0 3 * * 1 cd /srv && /'
    """
    if cron.zone_name:
        words = ("--timezone", cron.zone_name, *words)
    words = ("schedule", file, "--once", "--cron", cron.line, *words)
    return {"systemd": _systemd, "cron": _cron, "github-actions": _github}[kind](
        words, file, cron, folder
    )


def _systemd(words: tuple[str, ...], file: str, cron: Cron, folder: Path) -> str:
    name = f"auditor-{_name(file)}"
    command = " ".join(map(_systemd_word, (sys.executable, "-P", "-m", "auditor", *words)))
    calendar = "\n".join(f"OnCalendar={event}" for event in cron.calendars())
    return f"""\
# Save the first part as ~/.config/systemd/user/{name}.service, the second as {name}.timer; then:
#   systemctl --user daemon-reload && systemctl --user enable --now {name}.timer
# A gate that fails ends the service with exit code 3, and a run that is stopped with 130.

# ---- {name}.service
[Unit]
Description=Memorization audit {_percent(file)}

[Service]
Type=oneshot
WorkingDirectory={_percent(str(folder))}
ExecStart={command}
SuccessExitStatus=130
UMask=0077
Nice=10

# ---- {name}.timer
[Unit]
Description=When the memorization audit {_percent(file)} runs

[Timer]
{calendar}
Persistent=true

[Install]
WantedBy=timers.target
"""


def _cron(words: tuple[str, ...], file: str, cron: Cron, folder: Path) -> str:
    command = shlex.join([sys.executable, "-P", "-m", "auditor", *words])
    log = f"auditor-{_name(file)}.log"
    line = f"cd {shlex.quote(str(folder))} && {command} >> {shlex.quote(log)} 2>&1"
    escaped = line.replace("%", "\\%")  # cron takes a bare one for the end of the line
    zone = (
        f"# {cron.zone_name} is read by cronie; other crons know the machine's timezone alone.\n"
        f"CRON_TZ={cron.zone_name}\n"
        if cron.zone_name
        else ""
    )
    return f"# Add with: crontab -e\n{zone}{cron.line} {escaped}\n"


def _github(words: tuple[str, ...], file: str, cron: Cron, folder: Path) -> str:
    # The workflow's clock is UTC, whatever was asked.
    plain = [w for pair in _pairs(words) for w in pair if pair[0] != "--timezone"]
    command = shlex.join(["auditor", *plain, "--timezone", "UTC"])
    note = (
        f"# GitHub reads the line in UTC; it was asked for in {cron.zone_name}: adapt the hours.\n"
        if cron.zone_name not in ("", "UTC")
        else ""
    )
    name = _name(file)
    return f"""\
# Save as .github/workflows/auditor-{name}.yml. A gate that fails fails the job.
{note}# Runs hold generated text: whoever may read the repository's caches may read it.
name: Memorization audit {name}
on:
  schedule:
    - cron: "{cron.line}"
  workflow_dispatch:
permissions:
  contents: read
concurrency:
  group: auditor-{name}
  cancel-in-progress: false
jobs:
  audit:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.11"
      - run: pip install "memorization-auditor[schedule]"
      # The runs so far are the history that a run is compared with.
      - uses: actions/cache/restore@v4
        with:
          path: runs
          key: auditor-{name}-${{{{ github.run_id }}}}
          restore-keys: auditor-{name}-
      - run: {_yaml(command)}
      - uses: actions/cache/save@v4
        if: always()
        with:
          path: runs
          key: auditor-{name}-${{{{ github.run_id }}}}
"""


def _pairs(words: tuple[str, ...]) -> list[tuple[str, ...]]:
    """A flag and its value side by side; other words alone."""
    pairs: list[tuple[str, ...]] = []
    rest = list(words)
    while rest:
        n = 2 if rest[0] in ("--cron", "--timezone", "--out") and len(rest) > 1 else 1
        pairs.append(tuple(rest[:n]))
        del rest[:n]
    return pairs


def _name(file: str) -> str:
    """A file's name as part of a unit's."""
    return re.sub(r"[^A-Za-z0-9]+", "-", Path(file).stem).strip("-") or "audit"


def _systemd_word(word: str) -> str:
    """A word of ExecStart, quoted where it must be."""
    plain = _percent(word).replace("$", "$$")
    if re.fullmatch(r"[A-Za-z0-9_@%+=:,./$-]+", plain):
        return plain
    escaped = plain.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _percent(text: str) -> str:
    """systemd takes a percent sign for the start of a specifier."""
    return text.replace("%", "%%")


def _yaml(text: str) -> str:
    """A text as a YAML scalar in single quotes."""
    return "'" + text.replace("'", "''") + "'"
