"""Which images of a folder of predictions have a result."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import final

from foveate.core.types import Record
from foveate.data.boxes.listing import listed_of
from foveate.data.image_files import fingerprint_of, image_files

DONE = "done.txt"
NO_RESULT = "-"


@final
class Journal:
    """Which images have a result: another image of the same name, or a changed one, has none."""

    def __init__(self, out: Path) -> None:
        self.path = out / DONE
        text = self.path.read_text(encoding="ascii") if self.path.exists() else ""
        pairs = (line.split() for line in text.splitlines())
        self.known = dict(pair for pair in pairs if len(pair) == 2)  # the last of a name counts

    def has(self, line: tuple[str, str]) -> bool:
        """Whether this very image was answered last."""
        return self.known.get(line[0]) == line[1]

    def forget(self, line: tuple[str, str]) -> None:
        """Before a result is replaced: killed in between, it would be taken for that of the earlier image."""
        if line[0] in self.known:
            self.add((line[0], NO_RESULT))

    def add(self, line: tuple[str, str]) -> None:
        """Note an image whose result is written."""
        self.known[line[0]] = line[1]
        with self.path.open("a", encoding="ascii") as stream:
            stream.write(f"{line[0]} {line[1]}\n")

    @staticmethod
    def line(record: Record) -> tuple[str, str]:
        """Hashes of an image's name, and of its size, time and listed boxes; taken before it is read."""
        listed = listed_of(record)
        asked = () if listed is None else listed.fingerprint()
        facts = (record.relative, *fingerprint_of(image_files(record)), *asked)
        texts = (repr(fact).encode("utf-8", "surrogateescape") for fact in (record.relative, facts))
        name, all_facts = (blake2b(text, digest_size=16).hexdigest() for text in texts)
        return name, all_facts
