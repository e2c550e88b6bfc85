"""The list of `make test-wheel`: a stray file and an absent one are found."""

from tests.wheel.contents import BESIDE, LARGEST, of_sdist, of_wheel, sources


def test_strays_and_gaps_of_a_wheel_are_found():
    expected = {"foveate/cli.py", "foveate/pages/assets/main.js"}
    whole = dict.fromkeys([*expected, "foveate-0.dist-info/METADATA"], 10)
    assert of_wheel(whole, expected) == []
    assert of_wheel({"foveate/cli.py": 10}, expected) == ["absent: foveate/pages/assets/main.js"]
    assert of_wheel({**whole, "tests/x.py": 1}, expected) == ["not of the package: tests/x.py"]
    assert of_wheel({**whole, "foveate/cli.py": LARGEST + 1}, expected) == ["too large: foveate/cli.py"]
    data = {**whole, "foveate/scan.nii.gz": 1}
    assert of_wheel(data, {*expected, "foveate/scan.nii.gz"}) == [
        "no source and no asset: foveate/scan.nii.gz"
    ]


def test_strays_and_gaps_of_an_sdist_are_found():
    whole = {"src/foveate/cli.py", *BESIDE}
    assert of_sdist(whole, {"foveate/cli.py"}) == []
    assert of_sdist({*whole, "benchmarks/x.npz"}, {"foveate/cli.py"}) == [
        "does not belong there: benchmarks/x.npz"
    ]
    assert of_sdist(whole - {"LICENSE"}, {"foveate/cli.py"}) == ["absent: LICENSE"]


def test_what_lies_in_the_package_belongs_into_a_wheel():
    found = sources()
    assert {"foveate/listing.json", "foveate/py.typed", "foveate/recipes/finetune/quick.yaml"} <= found
    assert of_wheel(dict.fromkeys(found, 1), found) == []
