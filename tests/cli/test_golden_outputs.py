"""`onnxq compare --save-golden`, and `--golden` with what a device gave."""

import json

import numpy as np
import onnx
from layer_files import FP16, INT8, layer, port, written


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


def test_both_models_run_once_for_the_file_and_the_comparison(
    done, classifier, images, folder, monkeypatch
):
    from onnxq.run import over

    done("quantize", classifier, "--calib", images, "--recover", "none", "-o", "q.onnx")
    ran, load = [], over.loaded

    def counted(*given):
        run = load(*given)
        return Counted(run, ran)

    class Counted:
        def __init__(self, run, ran):
            self.run, self.outputs, self.ran = run, run.outputs, ran

        def __call__(self, sample):
            self.ran.append(1)
            return self.run(sample)

    for module in ("onnxq.trt.runners", "onnxq.trt.golden"):
        monkeypatch.setattr(f"{module}.loaded", counted)
    done("compare", classifier, "q.onnx", "--calib", images, "--samples", "3",
         "--save-golden", "g.npz", "--per-tensor")  # fmt: skip
    assert len(ran) == 6
    with np.load("g.npz") as golden:
        kept = {name.rpartition("/")[0] for name in golden.files if name != "header.json"}
    assert kept == {"input/image", "float/logits", "quantized/logits"}


def test_a_comparison_says_what_each_tensor_ran_in(onnxq, done, classifier, images, folder):
    done("quantize", classifier, "--calib", images, "--recover", "none", "-o", "q.onnx")
    products = [n.name for n in onnx.load("q.onnx").graph.node if n.op_type in ("Conv", "Gemm")]
    layers = [layer(n, reads=(port("x", FP16 if n == products[0] else INT8),),
                    writes=(port("y", INT8),), weights="Int8") for n in products]  # fmt: skip
    written(folder, "layers.json", {"Layers": layers})
    times = {n: 0.5 * (i + 1) for i, n in enumerate(products)}
    written(folder, "times.json", times)
    asked = ("compare", classifier, "q.onnx", "--calib", images, "--samples", "1", "--per-tensor",
             "--layers", "layers.json", "--profile", "times.json")  # fmt: skip
    found = json.loads(done(*asked, "--json", "--report", "page.html").out)
    (part,) = found["parts"].values()
    assert (part["runs"]["node"], part["runs"]["precision"]) == (products[-1], "int8")
    assert part["runs"]["ms"] == times[products[-1]]
    assert part["runs"]["share"] == times[products[-1]] / sum(times.values())
    ran = {t["runs"]["node"]: t["runs"]["precision"] for t in found["tensors"].values()
           if t["runs"]}  # fmt: skip
    assert ran[products[0]] == "fp16"
    assert "computed by" in done(*asked).out
    assert "(layer info)" in (folder / "page.html").read_text()
    alien = [layer(f"Conv_{i}", weights="Int8") for i in range(3)]
    written(folder, "layers.json", {"Layers": [layers[0], *alien]})
    ran = onnxq(*asked[:-2])
    assert ran.code == 2
    assert "is of another model than 'q.onnx'" in ran.err
    assert len(ran.err.splitlines()) == 1
