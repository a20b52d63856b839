"""`python -m training --minutes 90 --out dreamrelay/engines/pocket_model`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

# Spinning OpenMP threads starve each other on shared cores; this must precede torch.
os.environ.setdefault("GOMP_SPINCOUNT", "0")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from training.train import Settings, train


def main() -> None:
    """Reads the flags and trains."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=90, help="training time, all runs together"
    )
    parser.add_argument("--out", type=Path, default=Path("dreamrelay/engines/pocket_model"))
    parser.add_argument("--sheet", type=Path, default=Path("docs/images/pocket_sheet.jpg"))
    parser.add_argument("--batch", type=float, default=1.0, help="factor of the batch sizes")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="cores to keep busy"
    )
    parser.add_argument("--export-minutes", type=float, default=15, help="between two exports")
    flags = parser.parse_args()
    train(
        Settings(
            minutes=flags.minutes,
            out=flags.out,
            sheet=flags.sheet,
            batch=flags.batch,
            seed=flags.seed,
            workers=flags.workers,
            export_minutes=flags.export_minutes,
        )
    )


if __name__ == "__main__":
    main()
