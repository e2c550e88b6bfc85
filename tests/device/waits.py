"""How often one optimizer step makes the host wait for the device: a table of every method.

    python tests/device/on_device.py tests/device/waits.py [--only NAME] [--dimensions 2,3] [--where]

"Waits": numbers come back from the device, or a shape depends on them. "Blocking copies": numbers go to the
device in a way that waits for all it was asked before. Steps that log, save or measure are not counted. The
batch has two samples; the counts do not grow with it. --where names the lines that ask.
"""

import argparse

import steps
from ledger import BLOCKING, LEDGER, WAIT


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="a part of the name")
    parser.add_argument("--dimensions", default="2,3")
    parser.add_argument("--where", action="store_true")
    chosen = parser.parse_args()
    dimensions = [int(d) for d in chosen.dimensions.split(",")]
    steps.quiet()
    found, places = {}, []
    for dimension in dimensions:
        for name, config in steps.variants(dimension).items():
            if chosen.only in name:
                LEDGER.clear()
                found[name, dimension] = one = steps.counted(config())
                places.append((f"{name}, {dimension}D", one.events))
    columns = "".join(f" {d}D waits | {d}D blocking copies |" for d in dimensions)
    print(f"| |{columns}\n|---|{'---|---|' * len(dimensions)}")
    for name in dict.fromkeys(name for name, _ in found):
        cells = [found[name, d] for d in dimensions]
        print(f"| {name} |" + "".join(f" {cell.waits} | {cell.blocking} |" for cell in cells))
    if chosen.where:
        for title, events in places:
            print(f"\n{title}: in {steps.STEPS - 2} steps")
            for (kind, where, what), n in sorted(events.items(), key=lambda item: -item[1]):
                if kind in (WAIT, BLOCKING):
                    print(f"  {n:4} {kind:14} {what:28} {where}")


if __name__ == "__main__":
    main()
