"""What large campaigns take on 1, 8 and 64 GPUs: `python -m benchmarks.scale > docs/scale.md`.

No GPU has been measured. Times are computed from what a GPU's data sheet promises, times the shares
of it that are stated below; the arithmetic is here, so that a measured share can take their place.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A model's shape: parameters, layers, width of keys (and of values)."""

    name: str
    parameters: float
    n_layer: int
    width: int

    @property
    def weight_bytes(self) -> float:
        """In bfloat16."""
        return 2 * self.parameters

    @property
    def cache_bytes(self) -> float:
        """Keys and values of one token, in bfloat16."""
        return 2 * 2 * self.n_layer * self.width


@dataclass(frozen=True)
class Gpu:
    """A GPU's data sheet: bytes/s of memory, dense bfloat16 FLOP/s, bytes of memory."""

    name: str
    bandwidth: float
    flops: float
    memory: float


H100 = Gpu("H100 (SXM)", 3.35e12, 989e12, 80e9)
XL = Shape("GPT-2 XL", 1.558e9, 48, 1600)
MEDIUM = Shape("GPT-2 Medium", 0.355e9, 24, 1024)
SMALL = Shape("GPT-2 Small", 0.124e9, 12, 768)
PYTHIA = Shape("Pythia 6.9B", 6.86e9, 32, 4096)

DECODING, SCORING = 0.7, 0.5  # shares of the data sheet that are assumed, not measured
CACHE_SHARE = 0.5  # of the free memory, what the engine gives to the cache
MOST_SLOTS = 2048
DOLLARS = 3.0  # assumed, per GPU and hour
# Measured on the testbed (192 samples of 128 tokens): bytes a sampled token, bytes of scores a row.
SAMPLE_BYTES, SCORE_BYTES = 9.0, 160.0


def slots(shape: Shape, gpu: Gpu, tokens: int) -> int:
    """Sequences in flight, as the engine chooses them.

    >>> slots(XL, H100, 256)  # (80 - 3.116) GB / 2 / (307,200 B x 257 tokens)
    486
    """
    room = CACHE_SHARE * (gpu.memory - shape.weight_bytes)
    return max(1, min(MOST_SLOTS, int(room // (shape.cache_bytes * (tokens + 1)))))


def sampled_per_second(shape: Shape, gpu: Gpu, tokens: int) -> float:
    """Tokens a second: a step reads the weights once, and each sequence's cache half full.

    >>> round(sampled_per_second(XL, H100, 256))  # 0.7 x 486 / (22.2 GB / 3.35 TB/s)
    51276
    """
    n = slots(shape, gpu, tokens)
    moved = (shape.weight_bytes + n * shape.cache_bytes * tokens / 2) / gpu.bandwidth
    computed = 2 * shape.parameters * n / gpu.flops
    return DECODING * n / max(moved, computed)


def scored_per_second(shape: Shape, gpu: Gpu) -> float:
    """Tokens a second of given text: two operations a parameter.

    >>> round(scored_per_second(SMALL, H100) / 1e6, 2)  # 0.5 x 989e12 / 0.248e9
    1.99
    """
    return SCORING * gpu.flops / (2 * shape.parameters)


@dataclass(frozen=True)
class Campaign:
    """What is to be sampled, and by what it is scored (the target's lower-cased pass included)."""

    name: str
    target: Shape
    samples: float
    tokens: int
    references: tuple[Shape, ...] = ()

    @property
    def total(self) -> float:
        """Tokens."""
        return self.samples * self.tokens

    def seconds(self, gpu: Gpu) -> tuple[float, float]:
        """Of one GPU: sampling, scoring."""
        passes = (self.target, *self.references)
        return (
            self.total / sampled_per_second(self.target, gpu, self.tokens),
            sum(self.total / scored_per_second(shape, gpu) for shape in passes),
        )


CAMPAIGNS = (
    Campaign("The paper's: 600,000 samples of 256 tokens", XL, 6e5, 256, (SMALL, MEDIUM)),
    Campaign("A billion tokens, 256 a sample", XL, 1e9 / 256, 256, (SMALL, MEDIUM)),
    Campaign("A billion tokens, 256 a sample", PYTHIA, 1e9 / 256, 256),
)

_TOP = f"""# Scale

What the paper's campaign (600,000 samples) and a billion tokens (Nasr et al. 2023) take. **No GPU
was measured: every GPU figure here is computed**, by `python -m benchmarks.scale`, from the data
sheet of an {H100.name}: {H100.bandwidth / 1e12:.2f} TB/s, {H100.flops / 1e12:.0f} TFLOP/s
of dense bfloat16, {H100.memory / 1e9:.0f} GB.

- A decoding step reads the weights once and every sequence's keys and values, at an assumed
  {100 * DECODING:.0f} % of the memory's bandwidth. Half of the free memory holds the cache, as in
  the engine.
- Scoring takes two operations a parameter and token, at an assumed {100 * SCORING:.0f} % of the
  dense rate: once by the target on lower-cased text, once by each reference. What the target itself
  thinks of a sample is kept as it is drawn and costs nothing.
- On a GPU the engine queues recorded steps (CUDA graphs) in bursts of 16 and reads their numbers
  one burst late, so that no step waits for the host. Steps are recorded anew for each shard, once
  for every 64 tokens of room: larger shards (`--shard-size`) make that rarer. All of this was
  tested on a CPU, where it draws the same samples as the plain loop, and timed on no GPU.
- A shard is spelt out and written while the next is drawn; with `--workers` or `--ray`, each worker
  writes its own between two.
- Shards know nothing of each other, so GPUs divide the time. A last, unfinished shard, loading the
  models, ranking and matching come on top.
- Money: {DOLLARS:.0f} dollars a GPU and hour, assumed.
"""

_END = f"""
## Memory, disk, and what is not on a GPU

- **Disk**: {SAMPLE_BYTES:.0f} bytes a sampled token and {SCORE_BYTES:.0f} bytes a sample for its
  scores, measured on the testbed (192 samples of 128 tokens; larger vocabularies compress less
  well). That is {6e5 * 256 * SAMPLE_BYTES / 1e9:.1f} GB for the paper's campaign and
  {1e9 * SAMPLE_BYTES / 1e9:.0f} GB for a billion tokens.
- **Memory**: a process holds two shards (512 samples each; the one that is drawn, the one that is
  written) beside its models, however long the run is. On the GPU the cache takes half of what the
  weights leave. Ranking holds all samples' scores at once, some ten numbers of 8 bytes each and a
  name.
- **Matching** is one pass over the training text on the cores of one machine, whatever the number
  of samples; docs/experiments.md has its measured rates.
- **Two cores of a CPU** sampled 928 tokens/s with GPT-2 Small's shape in bfloat16, 256 sequences of
  256 tokens at once (one quiet run): {6e5 * 256 / 928 / 3600:.0f} hours for the paper's number of
  samples.

## How to run it

```sh
auditor audit --model gpt2-xl --reference gpt2 --reference gpt2-medium --samples 200000 --workers 8
auditor audit --model gpt2-xl --samples 200000 --ray auto --out /shared/runs/x
```

`--workers` are processes of this machine, a GPU each; `--ray` are actors of a cluster, a GPU each,
with the run's folder on a disk that every node sees, or at a URL (`--out s3://bucket/run`; fsspec
and the storage's own package, such as s3fs, open it). One process writes the manifest; workers
write shards, whole or not at all. A worker that dies costs the shard that it was at, which another
makes again (given up after three times). The files are those of one process, byte for byte, where
arithmetic is the same: on a CPU the last bits depend on the number of threads, so set
OMP_NUM_THREADS to what each worker has if that matters.
"""


def page() -> str:
    """The page as Markdown.

    >>> page().startswith("# Scale")
    True
    """
    rows = ["| campaign | GPUs | sampling | scoring | together | dollars |", "| --- " * 6 + "|"]
    for campaign in CAMPAIGNS:
        sampling, scoring = campaign.seconds(H100)
        for n in (1, 8, 64):
            name = f"{campaign.name}, {campaign.target.name}"
            spent = (sampling / n, scoring / n, (sampling + scoring) / n)
            dollars = DOLLARS * (sampling + scoring) / 3600
            times = " | ".join(map(_time, spent))
            rows.append(f"| {name if n == 1 else ''} | {n} | {times} | {dollars:,.0f} |")
    return "\n".join([_TOP, *rows, _END])


def _time(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


if __name__ == "__main__":
    print(page(), end="")
