"""`onnxq data --pick`: from files to files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def x(images):
    return np.load(images)[:20]


def test_shards_are_looked_at_apart_and_picked_from_together(done, classifier, x):
    np.save("a.npy", x[:12])
    np.save("b.npy", x[12:])
    both = ("--from", "a.npy", "--from", "b.npy")
    for name in ("a", "b"):
        found = done("data", "--model", classifier, "--from", f"{name}.npy", "--signatures",
                     f"{name}.sig.npz").out  # fmt: skip
        assert "signatures of" in found
    files = ("--signatures", "a.sig.npz", "--signatures", "b.sig.npz")
    found = done("data", "--model", classifier, *both, *files, "--pick", "5", "-o", "p.npz")
    assert found.out == "5 samples\nwritten: a.sig.npz, p.npz\n"
    done("data", "--model", classifier, "--calib", "b.npy", "--calib", "a.npy", "--pick", "5",
         "-o", "q.npz")  # fmt: skip
    assert Path("p.npz").read_bytes() == Path("q.npz").read_bytes()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--signatures", "s.npz", "-o", "p.npz"), "--signatures is for --pick"),
        (("--pick", "2", "--check-samples", "2", "-o", "p.npz"), "both choose samples"),
        (("--pick", "2", "-o", "p.py"), "'p.py' would load every sample"),
        (("--pick", "500", "-o", "p.npz"), "cannot pick 500 of"),
    ],
)
def test_what_cannot_be_done_is_said(onnxq, classifier, images, options, said):
    ran = onnxq("data", "--model", classifier, "--from", images, *options)
    assert ran.code == 2
    assert said in ran.err
    assert not Path("p.npz").exists()


def test_a_table_and_a_line_say_whether_the_data_are_enough(done, classifier, images):
    out = done("calibrate", classifier, "--calib", images, "--enough", "-o", "r.json").out
    assert "With twice the 100 samples, judged by 8 parts" in out
    assert "data: twice the 100 samples would change" in " ".join(out.split())
    assert Path("r.json").is_file()
