"""Damages valid images in thousands of ways and reads each: `make fuzz`, or `fuzz.py COUNT SEED`.

Every file must come back as finite numbers in two or three axes, or be refused with a reason of one line that
does not name it. Listing a folder runs in this process and must not fail; decoding runs in the child of
`data.decoding`, whose deaths are counted. Files that break a rule are kept in `fuzz-findings/`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from foveate.data.decoding.decoder import Decoder
from foveate.data.readers.unreadable import UnreadableImageError
from foveate.data.sources.folder import FolderSource
from mutations import mutated, samples

MEMORY_BYTES, TIMEOUT_SECONDS = 1 << 30, 10.0
SECRETS = ("secret", "Doe", "Jane")


def outcome(decoder: Decoder, path: Path) -> str:
    """How a file was read: `image`, or the reason why not; listed first as part of its folder."""
    (record,) = FolderSource().records(path)
    _check_text(record.evidence, path)
    if record.role != "image":
        return record.evidence
    try:
        volume = decoder.read(record.files or (record.path,))
    except UnreadableImageError as error:
        _check_text(error.reason, path)
        return error.reason
    if not (volume.array.ndim in {3, 4} and volume.array.size and np.isfinite(volume.array).all()):
        raise AssertionError(f"shape {volume.array.shape}, or values that are not finite")
    if not (np.isfinite(volume.affine).all() and min(volume.spacing_mm) > 0):
        raise AssertionError(f"spacing {volume.spacing_mm}, affine {volume.affine.tolist()}")
    return "image"


def _check_text(text: str, path: Path) -> None:
    if "\n" in text or not text or any(word in text for word in (path.stem, str(path.parent), *SECRETS)):
        raise AssertionError(f"the reason {text!r}")


def fuzz(count: int, seed: int, findings: Path) -> tuple[Counter[str], list[str]]:
    """Outcomes of `count` damaged files, and what broke a rule."""
    decoder = Decoder(memory_bytes=MEMORY_BYTES, timeout_s=TIMEOUT_SECONDS)
    tally: Counter[str] = Counter()
    broken: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        valid = samples(Path(tempfile.mkdtemp(dir=scratch)))
        names = sorted(valid)
        for number in range(count):
            rng, name = np.random.default_rng([seed, number]), names[number % len(names)]
            path = Path(scratch) / f"q7z{''.join(Path(name).suffixes)}"
            path.write_bytes(mutated(rng, name, valid[name]))
            try:
                tally[outcome(decoder, path)] += 1
            except Exception as error:
                findings.mkdir(exist_ok=True)
                (findings / f"{seed}-{number}-{name}").write_bytes(path.read_bytes())
                broken.append(f"{name} number {number}: {type(error).__name__}: {error}")
    decoder.close()
    return tally, broken


def main() -> int:
    """Runs and prints; 1 where a rule was broken."""
    given = [int(text) for text in sys.argv[1:]]
    count, seed = (*given, *(20000, 0)[len(given) :])
    start = time.monotonic()
    tally, broken = fuzz(count, seed, Path("fuzz-findings"))
    died = sum(n for reason, n in tally.items() if "ended the process" in reason)
    late = sum(n for reason, n in tally.items() if "takes more than" in reason)
    print(
        f"{count} damaged files (seed {seed}) in {time.monotonic() - start:.0f} s: {tally['image']} images, ",
        end="",
    )
    print(f"{count - tally['image'] - len(broken)} refused, {died} of them ended the process, {late} hung;")
    print(f"{len(broken)} broke a rule; the commonest reasons:")
    for reason, times in tally.most_common(9):
        print(f"  {times:6} {reason}")
    for line in broken[:20]:
        print(f"  {line}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
