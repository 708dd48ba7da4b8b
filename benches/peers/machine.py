"""What the machine itself does: a product of 2 048 x 2 048 float32 matrices on every core, a copy of 256 MiB on one."""

import common
import numpy as np


def prepare(case):
    if case == "sgemm":
        a, b, out = (np.full((2048, 2048), 0.5, np.float32) for _ in range(3))
        return lambda: np.matmul(a, b, out=out), None, "numpy, 2 * 2048^3 operations"
    source, target = np.ones(1 << 26, np.float32), np.zeros(1 << 26, np.float32)
    return lambda: np.copyto(target, source), None, "numpy, 256 MiB read and 256 MiB written"


if __name__ == "__main__":
    common.serve(np.__version__, prepare, cases=("sgemm", "copy"), keep=2)
