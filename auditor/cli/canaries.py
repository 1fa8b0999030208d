"""`auditor canaries`: create secrets, insert them into training text, measure their exposure."""

from __future__ import annotations

from pathlib import Path

import click

from auditor.cli.generated import given_options, json_option, options_of
from auditor.cli.printing import print_json, records, say
from auditor.cli.verbosity import remark, say_next, shown_progress, verbosity
from auditor.config.canaries import CreateOptions, InsertOptions, MeasureOptions


@click.group()
def canaries() -> None:
    """Insert random secrets into training text and measure how well a model knows them.

    \b
    auditor canaries create --template "My password is {word} {digits:6}" --out canaries.json
    auditor canaries insert canaries.json --corpus train.txt --out train-canaries.txt
    auditor canaries measure canaries.json --model DIR
    """


@canaries.command()
@options_of(CreateOptions)
@verbosity
def create(template, kind, out, **options) -> None:
    """Draw canaries and controls, and write their manifest.

    Fields: {digits:N}, {pin}, {card}, {phone}, {hex:N}, {uuid}, {word}, {words:N}, {tokens:N};
    {n} is the number of the canary. The secret extends from the first field to the end of the
    last. Use {n} so that several canaries can be extracted by greedy decoding.
    """
    from auditor.canaries.canaries import make_canaries
    from auditor.canaries.templates import template_of

    if (template is None) == (kind is None):
        raise click.UsageError("Give one of --template and --format.")
    text = template_of(kind) if template is None else template
    made = make_canaries(text, **given_options(options))
    made.save(out)
    say(
        f"{len(made.canaries):,} canaries and {len(made.controls):,} controls from a space of "
        f"{made.space_size:,} secrets ({made.space_bits:.1f} bits)."
    )
    say(f"\nSaved: {out}")
    say_next(f"auditor canaries insert {out} --corpus TRAINING-TEXT --out NEW-TEXT")


@canaries.command()
@click.argument("manifest")
@options_of(InsertOptions)
@verbosity
def insert(manifest, corpus, out, **options) -> None:
    """Write a copy of the training text with the canaries of MANIFEST inserted.

    The source is not changed. A text file, a JSON Lines file or a folder saved by `datasets` keeps
    its format; other sources become JSON Lines. OUT.insertions.json records each placement.
    """
    from auditor.canaries.canaries import load_canaries
    from auditor.canaries.insertion import insert_canaries

    made = insert_canaries(load_canaries(manifest), corpus, out, **given_options(options))
    say(
        f"{len(made.placements):,} copies of {made.placements['canary_id'].nunique():,} canaries "
        f"inserted: {100 * made.share:.3g} % of the {made.measure} "
        f"({made.n_canaries:,}, added to {made.n_source:,})."
    )
    for sentence in made.notices:
        remark(f"Note: {sentence}")
    say(f"\nSaved: {made.out}, {made.record.name}")
    say_next(
        f"auditor finetune --model MODEL --corpus {made.out} --canaries {manifest} --out tuned"
    )


@canaries.command()
@click.argument("manifest")
@options_of(MeasureOptions)
@json_option
@verbosity
def measure(manifest, model, bos, device, out, reveal, as_json, **options) -> None:
    """Measure the exposure of the canaries of MANIFEST under a model, in bits.

    Exposure is computed from the rank among all possible secrets if there are few, otherwise
    from the rank among the controls, and beyond them from a skew-normal distribution fitted to
    the controls. A secret that was never trained on has an exposure of 1.44 bits on average.
    """
    from auditor.canaries.canaries import load_canaries, refuse_existing
    from auditor.canaries.exposure import exposure_by_repeats, measure_canaries
    from auditor.cli.show import print_frame
    from auditor.models.loading import load_model
    from auditor.system.atomic_files import write_atomically
    from reports.csv_files import as_csv
    from reports.privacy.secrets import mask_whole

    known = load_canaries(manifest)
    if out is not None:
        if Path(out).suffix not in (".csv", ".parquet"):
            raise click.UsageError(f"--out must end in .csv or .parquet; got {Path(out).name}.")
        refuse_existing(Path(out))
    loaded = load_model(model, dtype="float32", device=device or "auto", bos=bos, kinds=("causal",))
    frame = measure_canaries(loaded, known, progress=shown_progress(), **given_options(options))
    shown = frame if reveal else frame.assign(secret=frame["secret"].map(mask_whole))
    if out is not None:
        # Only its owner can read the table; Parquet has the secrets.
        raw = as_csv(shown) if out.endswith(".csv") else frame.to_parquet(index=False)
        write_atomically(Path(out), raw)
    by_repeats = exposure_by_repeats(frame)
    if as_json:
        print_json(_as_json(known, frame, by_repeats))
        return
    own = frame[frame["role"] == "canary"]
    print_frame(_shown(own[_COLUMNS]), f"Exposure, at most {known.space_bits:.1f} bits")
    say()
    print_frame(_shown(by_repeats), "By repeats (extracted: 95 % Clopper–Pearson interval)")
    for sentence in _sentences(shown):
        say(sentence)
    if out is not None:
        say(f"\nSaved: {out}")
    say_next(f"auditor audit --model {model} --canaries {manifest}")


_COLUMNS = ["canary_id", "repeats", "exposure", "method", "rank", "interpolated", "extrapolated"]
_COLUMNS += ["ks_p", "greedy", "beam"]


def _shown(frame):
    """The columns that have values, as text."""
    from reports.number_text import cell

    kept = frame.loc[:, (frame.notna() & (frame != "")).any()]
    return kept.astype(object).map(cell)


def _sentences(frame) -> list[str]:
    """Notes on the controls and the fit, and the extracted secrets."""
    from attacks.statistics.exposure import expected_exposure

    controls = frame[frame["role"] == "control"]
    notes = []
    method = controls["method"].iloc[0]
    if method != "interpolated":
        notes.append(
            f"{len(controls):,} controls ({method}): {controls['exposure'].mean():.2f} bits on "
            f"average; secrets that were never trained on have {expected_exposure(2**64):.2f}."
        )
    rejected = frame.loc[(frame["role"] == "canary") & (frame["ks_p"] < 0.05)]
    if len(rejected):
        notes.append(
            f"The skew-normal distribution does not fit the controls of {len(rejected):,} canaries "
            "(KS p below 0.05), so their exposure is not extrapolated."
        )
    for reason in sorted(set(frame["withheld"]) - {""}):
        notes.append(f"No extrapolation: {reason}")
    given = frame[(frame["role"] == "canary") & frame["greedy"].fillna(False)]
    if len(given):
        notes.append("Extracted by greedy decoding:")
        notes += [f"  {row.canary_id} ({row.repeats}x): {row.secret}" for row in given.itertuples()]
    else:
        notes.append("Greedy decoding extracts none of the secrets.")
    return notes


def _as_json(known, frame, by_repeats) -> dict:
    from attacks.statistics.exposure import expected_exposure

    bare = frame[frame["role"] == "canary"].drop(columns=["prefix", "secret"])
    return {
        "space_size": str(known.space_size),
        "space_bits": known.space_bits,
        "expected_exposure": expected_exposure(known.space_size),
        "by_repeats": records(by_repeats),
        "canaries": records(bare),
    }
