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
    Campaign("The paper: 600,000 samples of 256 tokens", XL, 6e5, 256, (SMALL, MEDIUM)),
    Campaign("A billion tokens, 256 per sample", XL, 1e9 / 256, 256, (SMALL, MEDIUM)),
    Campaign("A billion tokens, 256 per sample", PYTHIA, 1e9 / 256, 256),
)

_TOP = f"""# Scale

The cost of the experiment in the paper (600,000 samples) and of sampling a billion tokens (Nasr et
al. 2023). **All GPU figures are computed, not measured**, by `python -m benchmarks.scale`, from the
data sheet of an {H100.name}: {H100.bandwidth / 1e12:.2f} TB/s, {H100.flops / 1e12:.0f} TFLOP/s
of dense bfloat16, {H100.memory / 1e9:.0f} GB.

- A decoding step reads the weights once and the keys and values of every sequence, at an assumed
  {100 * DECODING:.0f} % of the memory bandwidth. Half of the free memory holds the cache, as in the
  engine.
- Scoring takes two operations per parameter and token, at an assumed {100 * SCORING:.0f} % of the
  dense rate: once with the target on lower-cased text, and once with each reference. The
  log-probabilities of the target itself are kept during sampling and cost nothing.
- On a GPU the engine queues recorded steps (CUDA graphs) in bursts of 16 and reads their results
  one burst later, so that no step waits for the host. Steps are recorded again for each shard, once
  for every 64 tokens of cache; larger shards (`--shard-size`) make this rarer. This code was tested
  on a CPU, where it draws the same samples as the plain loop; it has not been timed on a GPU.
- A shard is decoded and written while the next one is drawn; with `--workers` or `--ray`, each
  worker writes its shard before it starts the next.
- Shards are independent, so the time is divided by the number of GPUs. The last, partial shard,
  loading the models, ranking and matching are not included.
- Price: {DOLLARS:.0f} dollars per GPU hour (assumed).
"""

_END = f"""
## Memory, disk and CPU

- **Disk**: {SAMPLE_BYTES:.0f} bytes per sampled token and {SCORE_BYTES:.0f} bytes per sample for
  its scores, measured on the testbed (192 samples of 128 tokens; larger vocabularies compress less
  well). That is {6e5 * 256 * SAMPLE_BYTES / 1e9:.1f} GB for the experiment in the paper and
  {1e9 * SAMPLE_BYTES / 1e9:.0f} GB for a billion tokens.
- **Memory**: a process holds two shards of 512 samples (one being drawn, one being written) and its
  models, whatever the length of the run. On the GPU the cache takes half of the memory that the
  weights leave. Ranking holds the scores of all samples at once: some ten 8-byte numbers and a name
  per sample.
- **Matching** is one pass over the training text on the cores of one machine, whatever the number
  of samples; docs/experiments.md has the measured throughput.
- **Two CPU cores** sampled 928 tokens/s with a model of the size of GPT-2 Small in bfloat16, 256
  sequences of 256 tokens at once (one run on an idle machine). The experiment in the paper would
  take {6e5 * 256 / 928 / 3600:.0f} hours.

## How to run it

```sh
auditor audit --model gpt2-xl --reference gpt2 --reference gpt2-medium --samples 200000 --workers 8
auditor audit --model gpt2-xl --samples 200000 --ray auto --out /shared/runs/x
```

`--workers` starts processes on this machine, one GPU each. `--ray` starts actors on a Ray cluster,
one GPU each; the run folder must be on a disk that every node can reach, or at a URL
(`--out s3://bucket/run`; fsspec opens it with the package of that storage, such as s3fs). One
process writes the manifest, and workers write whole shards. If a worker dies, another redoes its
current shard (at most three times). The files equal those of a single process, byte for byte, if
the arithmetic is the same: on a CPU the last bits depend on the number of threads, so set
OMP_NUM_THREADS to the threads of each worker if that matters.
"""


def page() -> str:
    """The page as Markdown.

    >>> page().startswith("# Scale")
    True
    """
    rows = ["| experiment | GPUs | sampling | scoring | total | dollars |", "| --- " * 6 + "|"]
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
