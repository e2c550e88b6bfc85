"""The demo ends with its runs on one page, and says where it is."""

from tests.runtime.test_report import RUNS, write_run

from foveate.commands.demo import run as demo


def test_the_four_runs_are_on_one_page(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(demo, "say", said.append)
    for name in ("run", *(f"segmentation-{arm}" for arm in ("pre-trained", "scratch", "semi-supervised"))):
        write_run(tmp_path / name, RUNS["healthy"])
    demo.show(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "Loss of all runs" in page
    assert "segmentation-scratch: Summary" in page
    assert str(tmp_path / "report.html") in said[0]
