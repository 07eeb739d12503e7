"""`onnxq compare --save-golden`, and `--golden` with what a device gave."""

import json

import numpy as np


def test_the_way_to_a_device_and_back(onnxq, done, classifier, images, folder):
    done("quantize", classifier, "--calib", images, "--recover", "none", "-o", "q.onnx")
    done("compare", classifier, "q.onnx", "--calib", images, "--samples", "4",
         "--save-golden", "g.npz")  # fmt: skip
    with np.load("g.npz") as golden:
        back = np.concatenate([golden[f"quantized/logits/{i}"] for i in range(4)])
    np.savez("o.npz", logits=back)
    assert (
        "gives what INT8 should" in done("compare", "--golden", "g.npz", "--outputs", "o.npz").out
    )
    np.savez("o.npz", logits=back[::-1])
    ran = onnxq("compare", "--golden", "g.npz", "--outputs", "o.npz", "--json")
    assert ran.code == 1
    assert json.loads(ran.out)["failures"]


def test_what_does_not_go_together_is_refused(refused, classifier, images):
    assert "go together" in refused("compare", "--golden", "g.npz")
    assert "leave those out" in refused("compare", "--golden", "g.npz", "--outputs", "o.npz",
                                        "--calib", images)  # fmt: skip
    assert "give FLOAT, QUANTIZED" in refused("compare", classifier)
    assert "no golden outputs at" in refused("compare", "--golden", "g.npz", "--outputs", "o.npz")
