"""Rates and memory of `foveate scan` on many small files, one process tree a scan.

    python benchmarks/data/scan_rates.py                       # 100,000 files: 90 % DICOM slices, 10 % PNG
    python benchmarks/data/scan_rates.py --files 20000 --workers 2

Prints files a second of the three passes and of a second scan, and the peak anonymous memory (RssAnon, of the
process, its workers and their decoders, sampled every 0.2 s; pages shared after a fork count in each). Checks
that every file is in an image, that all were decoded, and that a second scan leaves the table as it was.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

SLICES, SIDE = 20, 16
MEMORY_MB, FASTER = 500, 5
CT = "1.2.840.10008.5.1.4.1.1.2"


def write_tree(root: Path, files: int) -> None:
    """Series of CT slices and single pictures, every one with voxels of its own."""
    rng = np.random.default_rng(0)
    series = files * 9 // 10 // SLICES
    slices = [template(k) for k in range(SLICES)]
    for number in range(series):
        folder = root / f"patient{number // 10}" / f"series{number}"
        folder.mkdir(parents=True)
        for k, written in enumerate(slices):
            pixels = rng.integers(0, 2000, (SIDE, SIDE)).astype(np.int16).tobytes()
            named = written[: -len(pixels)].replace(b"777777", b"%06d" % (100000 + number))
            (folder / f"{k}.dcm").write_bytes(named + pixels)
    for number in range(files - series * SLICES):
        folder = root / f"pictures{number // 500}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (SIDE, SIDE), np.uint8)).save(folder / f"{number}.png")


def template(k: int) -> bytes:
    """A slice of series 777777, whose pixels come last."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = CT, f"1.2.3.777777.{k}"
    data.SeriesInstanceUID, data.Modality, data.PatientID = "1.2.3.777777", "CT", "777777"
    data.Rows = data.Columns = SIDE
    data.PixelSpacing, data.ImageOrientationPatient = [1, 1], [1, 0, 0, 0, 1, 0]
    data.ImagePositionPatient = [0, 0, 2 * k]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation, data.PixelData = 15, 1, bytes(2 * SIDE**2)
    stream = BytesIO()
    data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def scan(root: Path, out: Path, until: str, workers: int) -> tuple[float, float]:
    """Seconds and peak anonymous MB of one scan."""
    command = [sys.executable, "-m", "foveate.cli", "scan", str(root), "--out", str(out)]
    started, peak = time.perf_counter(), 0.0
    with subprocess.Popen(
        [*command, "--until", until, "--num_workers", str(workers)], stdout=subprocess.DEVNULL
    ) as process:
        while process.poll() is None:
            peak = max(peak, anonymous_mb(process.pid))
            time.sleep(0.2)
    if process.returncode:
        raise SystemExit(f"the scan failed with {process.returncode}")
    return time.perf_counter() - started, peak


def anonymous_mb(pid: int) -> float:
    """Of a process and all below it."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        threads = [path.name for path in Path(f"/proc/{pid}/task").iterdir()]
        children = [Path(f"/proc/{pid}/task/{t}/children").read_text() for t in threads]
    except OSError:
        return 0.0
    own = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")), 0)
    return own / 1024 + sum(anonymous_mb(int(child)) for text in children for child in text.split())


def table(out: Path) -> list[dict[str, str]]:
    """The rows of an inventory."""
    with (out / "inventory.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root, out = Path(scratch) / "data", Path(scratch) / "inventory"
        root.mkdir()
        write_tree(root, given.files)
        seconds, peaks = {}, []
        for name, until in (("stat", "stat"), ("headers", "headers"), ("full", "full"), ("again", "full")):
            seconds[name], peak = scan(root, out, until, given.workers)
            peaks.append(peak)
            before = table(out) if name == "full" else []
            rate, mb = given.files / seconds[name], round(peak)
            print(f"{name:<8}{seconds[name]:9.1f} s {rate:9.0f} files/s, peak anonymous {mb} MB", flush=True)
            if before:
                kept = before
        assert table(out) == kept, "a second scan changed the table"
        assert sum(int(row["files"]) for row in kept) == given.files, "a file is missing"
        assert all(row["voxels"] for row in kept), "an image was not decoded"
    faster = (seconds["stat"] + seconds["headers"] + seconds["full"]) / seconds["again"]
    print(f"second scan {faster:.1f} times as fast; peak {max(peaks):.0f} MB; images: {len(kept)}")
    if max(peaks) > MEMORY_MB or faster < FASTER:
        raise SystemExit(f"accepted: below {MEMORY_MB} MB and at least {FASTER} times as fast")


if __name__ == "__main__":
    main()
