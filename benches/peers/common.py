"""What the Python peers share: workloads, a float64 reference, the protocol by which `cargo xtask peers` drives them.

A peer is a process that first prints one line about itself, then answers each line of its input with one line of JSON:

    prepare CASE    builds the inputs, runs once and compares all of the result with the reference
    run CASE N S    times at least N runs and S seconds, warm: {"case": ..., "ms": [...], "other_cores": ...}

An answer with "failed" gives the reason instead.
"""

import dataclasses
import json
import os
import resource
import sys
import time

import numpy as np

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
BASE = 10_000.0
TOLERANCE = 1e-3  # of the largest magnitude in the reference: far above rounding, far below a wrong row

WARM_S = 0.2  # the least time of a turn before the clock starts


@dataclasses.dataclass
class Workload:
    """Batch 1, float32, half-split pairs, all of a head rotated."""

    rows: int  # queries
    keys: int
    heads: int
    kv_heads: int
    dim: int
    bias: bool = False
    attention: bool = True

    def inputs(self):
        """q, k, v as [heads, tokens, dim]. In a decode step, keys before the last are a cache, rotated already."""
        rng = np.random.default_rng(20)
        draw = lambda heads, tokens: rng.standard_normal((heads, tokens, self.dim), dtype=np.float32)
        q, k, v = draw(self.heads, self.rows), draw(self.kv_heads, self.keys), draw(self.kv_heads, self.keys)
        return q, k, v

    def bias_table(self):
        """[heads, rows, keys], exact in float16: a value of each head and distance, spread as the packages want it."""
        rng = np.random.default_rng(21)
        table = rng.standard_normal((self.heads, self.rows + self.keys)).astype(np.float16).astype(np.float32)
        distance = np.arange(self.keys)[None, :] - np.arange(self.rows)[:, None] + self.rows
        return table[:, distance]

    @property
    def decode(self):
        return self.rows < self.keys

    def tables(self):
        """Cosines and sines of every position, [keys, dim / 2], from float64 angles."""
        frequencies = BASE ** (-np.arange(0, self.dim, 2) / self.dim)
        angles = np.arange(self.keys)[:, None] * frequencies
        return np.cos(angles), np.sin(angles)

    def rotated(self):
        """q and k in float64, rotated."""
        q, k, _ = self.inputs()
        first = self.keys - self.rows
        if self.decode:
            new = self._rotate(k[:, first:], first)
            return self._rotate(q, first), np.concatenate([k[:, :first].astype(np.float64), new], 1)
        return self._rotate(q, first), self._rotate(k, 0)

    def _rotate(self, x, first):
        cos, sin = (table[first : first + x.shape[1]] for table in self.tables())
        a, b = np.split(x.astype(np.float64), 2, axis=-1)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    def reference(self):
        """float64 [heads, rows, dim]; of the rotation alone q and k as one."""
        q, k = self.rotated()
        if not self.attention:
            return np.concatenate([q, k])
        v = self.inputs()[2].astype(np.float64)
        bias = self.bias_table() if self.bias else None
        hidden = np.arange(self.keys)[None, :] > np.arange(self.rows)[:, None] + self.keys - self.rows
        out = np.empty((self.heads, self.rows, self.dim))
        for head in range(self.heads):
            group = head * self.kv_heads // self.heads
            scores = q[head] @ k[group].T / np.sqrt(self.dim)
            if bias is not None:
                scores += bias[head]
            scores[hidden] = -np.inf
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            out[head] = weights @ v[group] / weights.sum(-1, keepdims=True)
        return out


WORKLOADS = {
    "p1": Workload(1024, 1024, 8, 8, 64),
    "b1": Workload(1024, 1024, 8, 8, 64, bias=True),
    "p2": Workload(2048, 2048, 32, 8, 128),
    "d1": Workload(1, 4096, 32, 8, 128),
    "r1": Workload(4096, 4096, 32, 8, 128, attention=False),
}


def judge(result, reference):
    """What the table says of a result, [heads, rows, dim]: a row is a head's row."""
    result = np.asarray(result, np.float64)
    if result.shape != reference.shape:
        return {"right": False, "verdict": f"wrong shape {list(result.shape)}"}
    error = np.abs(result - reference).max(-1) / np.abs(reference).max()
    wrong = ~(error <= TOLERANCE)  # NaN is wrong
    if wrong.any():
        return {"right": False, "verdict": f"wrong rows: {int(wrong.sum())} of {wrong.size}"}
    return {"right": True, "verdict": f"right to {error.max():.0e}"}


def busy_seconds():
    """CPU seconds of the whole machine and of this process, or None where the system does not tell."""
    try:
        with open("/proc/stat", encoding="ascii") as stat:
            ticks = [int(word) for word in stat.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    own = resource.getrusage(resource.RUSAGE_SELF)
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / os.sysconf("SC_CLK_TCK"), own.ru_utime + own.ru_stime


def timed(step, runs, seconds):
    """Milliseconds of each run, and how many cores other programs used meanwhile. Other peers ran before: a while
    passes until threads are back on their cores and memory in its caches."""
    start = time.perf_counter()
    step()
    while time.perf_counter() - start < WARM_S:
        step()
    before, start, times = busy_seconds(), time.perf_counter(), []
    while len(times) < runs or time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        step()
        times.append(round((time.perf_counter() - begin) * 1e3, 4))
    answer = {"ms": times}
    after, passed = busy_seconds(), time.perf_counter() - start
    if before and after and passed > 0.2:  # the counters tick every 10 ms
        others = (after[0] - before[0]) - (after[1] - before[1])
        answer["other_cores"] = round(max(0.0, others / passed), 2)
    return answer


def serve(version, prepare, cases=WORKLOADS, keep=1):
    """Answers until the input ends. `prepare(case)` returns what to time, a verdict or None, and a note of what is run.
    The last `keep` cases stay in memory."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not get between the answers
    say = lambda answer: print(json.dumps(answer), file=answers, flush=True)
    say({"version": version})
    ready = {}
    for line in sys.stdin:
        match line.split():
            case ["prepare", case] if case in cases:
                act = lambda: prepared(ready, case, prepare, keep)
            case ["run", case, runs, seconds] if case in ready:
                act = lambda: timed(ready[case], int(runs), float(seconds))
            case _:
                say({"failed": f"not understood: {line.strip()}"})
                continue
        try:
            say({"case": case} | act())
        except Exception as error:  # whatever a package throws is a row of the table
            reason = str(error).strip().splitlines()
            say({"case": case, "failed": f"{type(error).__name__}: {reason[0][:300] if reason else ''}"})


def prepared(ready, case, prepare, keep):
    while len(ready) >= keep:
        ready.pop(next(iter(ready)))
    step, verdict, note = prepare(case)
    ready[case] = step
    return (verdict or {}) | {"note": note}
