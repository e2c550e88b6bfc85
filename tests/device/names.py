"""Print the names of what can be run in a dimension.

    python tests/device/on_device.py tests/device/names.py GROUP DIMENSION

GROUP is one of `whole.GROUPS`, or "waits" for the steps whose waits are counted.
"""

import sys

import steps
import whole


def main():
    group, dimension = sys.argv[1:]
    print("\n".join({**whole.GROUPS, "waits": steps.variants}[group](int(dimension))))


if __name__ == "__main__":
    main()
