"""`onnxq report`, and `--report` of the verbs."""

import json
import re
import shlex
import shutil

import onnx
import pytest


def data_of(path):
    """What a page shows."""
    found = re.search(r'id="data">(.*?)</script>', path.read_text("utf-8"), re.DOTALL)
    return json.loads(found[1])


@pytest.fixture
def quantized(done, classifier, images, folder):
    """`q.onnx` with its manifest, and `stats.npz`."""
    options = ("--recover", "none", "--save-stats", "stats.npz")
    done("quantize", classifier, "--calib", images, "-o", "q.onnx", *options)
    return folder / "q.onnx"


def test_a_page_of_all_that_the_verbs_wrote(done, quantized, classifier, images, folder):
    few = ("--samples", 8)
    done("sensitivity", classifier, "--calib", images, *few, "-o", "ranking.json")
    search = ("--check-samples", 4, "--min-sqnr", 15, "--points", 0, "--trials", 2,
              "-o", "plan.yaml")  # fmt: skip
    done("search", classifier, "--calib", images, *few, *search, "--pareto", "search.json")
    compared = done("compare", classifier, quantized, "--calib", images, *few, "--per-tensor",
                    "--json")  # fmt: skip
    (folder / "compared.json").write_text(compared.out)
    done("report", quantized, "--stats", "stats.npz", "--ranking", "ranking.json",
         "--search", "search.json", "--comparison", "compared.json", "-o", "page.html")  # fmt: skip
    shown = data_of(folder / "page.html")
    assert {"sensitivity", "search", "comparison", "agreement"} <= shown.keys()
    columns = {key for node in shown["nodes"] for key in node}
    assert {"share", "score", "input_sqnr", "node_sqnr", "sat_ratio", "scale"} <= columns
    assert [c["label"] for c in shown["summary"]][:2] == ["SQNR", "cost"]
    said, repeat = shown["provenance"]["commands"][1], shown["provenance"]["commands"][0]
    assert said.startswith("onnxq report")
    assert "--config q.onnx.manifest.json" in repeat
    before = onnx.load(quantized).graph
    done(*shlex.split(repeat)[1:])
    assert onnx.load(quantized).graph == before  # the command does repeat it


def test_an_engine_is_read_as_it_is_or_as_build_told_of_it(done, onnxq, quantized, images, folder):
    built = onnxq("build", quantized, "--calib", images, "-o", "m.engine", "--json")
    if "no TensorRT can be imported" in built.err:
        pytest.skip("there is no TensorRT here")
    (folder / "built.json").write_text(built.out)
    pages = []
    for given in ("built.json", "m.engine"):
        done("report", quantized, "--engine", given, "-o", "page.html")
        pages.append(data_of(folder / "page.html")["engine"])
    assert pages[0]["verdict"] == pages[1]["verdict"]
    assert pages[0]["nodes"]


def test_quantize_hands_its_values_over(done, classifier, images, folder):
    done("quantize", classifier, "--calib", images, "--recover", "none", "--samples", 16,
         "--report", "page.html", "-o", "q.onnx")  # fmt: skip
    shown = data_of(folder / "page.html")
    assert shown["title"] == "q.onnx"
    assert all("readings" in tensor for tensor in shown["tensors"])
    assert "size" in [card["label"] for card in shown["summary"]]
    assert shown["provenance"]["commands"][0].startswith("onnxq quantize ")


def test_sensitivity_shows_the_model_as_it_would_be(done, classifier, images, folder):
    done("sensitivity", classifier, "--calib", images, "--samples", 8, "--report", "page.html")
    shown = data_of(folder / "page.html")
    shares = [node["share"] for node in shown["nodes"] if "share" in node]
    assert sum(shares) == pytest.approx(1, abs=1e-3)  # five digits each
    assert all(n["kind"] == "int8" for n in shown["nodes"] if "share" in n)


def test_search_shows_the_plan_it_chose(done, classifier, images, folder):
    done("search", classifier, "--calib", images, "--samples", 8, "--check-samples", 4,
         "--min-sqnr", 15, "--points", 0, "--trials", 2, "-o", "plan.yaml",
         "--report", "page.html")  # fmt: skip
    shown = data_of(folder / "page.html")
    chosen = shown["search"]["trials"][shown["search"]["chosen"]]
    floats = {n["name"] for n in shown["nodes"] if n["kind"] == "float"}
    assert set(chosen["float"]) <= floats


def test_compare_shows_what_failed(onnxq, quantized, classifier, images, folder):
    ran = onnxq("compare", classifier, quantized, "--calib", images, "--samples", 4,
                "--min-sqnr", 99, "--report", "page.html")  # fmt: skip
    assert ran.code == 1
    shown = data_of(folder / "page.html")
    assert shown["summary"][0]["state"] == "bad"
    assert shown["comparison"]["failures"]


def test_without_a_manifest_the_reasons_are_those_of_the_rules(done, quantized, folder):
    shutil.copy(quantized, "alone.onnx")
    done("report", "alone.onnx")
    shown = data_of(folder / "alone.html")
    assert any("own rules" in note for note in shown["provenance"]["notes"])


def test_the_manifest_of_another_model_is_not_believed(done, quantized, classifier, images, folder):
    options = ("--recover", "none", "--samples", 4, "--skip", "conv1")
    done("quantize", classifier, "--calib", images, *options, "-o", "other.onnx")
    shutil.copy("other.onnx.manifest.json", "q.onnx.manifest.json")
    done("report", quantized, "-o", "page.html")
    shown = data_of(folder / "page.html")
    assert "agreement" not in shown
    assert any("is of another model" in note for note in shown["provenance"]["notes"])


@pytest.mark.parametrize(
    ("option", "text", "said"),
    [
        ("--manifest", "{}", "is not a manifest"),
        ("--manifest", "[1", "is not a manifest"),
        ("--comparison", "[1", "is not JSON or is cut short"),
        ("--ranking", "{}", "is not a ranking that can be read"),
        ("--search", "[]", "is not a search result that can be read"),
        ("--engine", '{"ok": true, "build": {}, "verdict": {"a": 1}}', "KeyError"),
        ("--comparison", '{"samples": 1}', "expected 'outputs' to be a dict, found none"),
        ("--stats", "PK", "is not a statistics file"),
    ],
)
def test_a_file_that_is_something_else_is_refused(refused, quantized, option, text, said):
    bad = quantized.with_name("bad.json")
    bad.write_text(text)
    assert said in refused("report", quantized, option, bad, "-o", "page.html")


def test_a_ranking_of_another_model_is_refused(refused, done, quantized, folder, conv_model):
    body = """(float[N, 16, 8, 8] x) => (float[N, 16, 8, 8] y)
        { c = Conv<pads = [1, 1, 1, 1]>(x, w) y = Relu(c) }"""
    other = conv_model(body)
    done("calibrate", other, "--calib", "random", "--samples", 2, "--save-stats", "other.npz",
         "-o", "r.json")  # fmt: skip
    line = refused("report", quantized, "--stats", "other.npz", "-o", "page.html")
    assert line.startswith("the statistics 'other.npz' were made for model ")


def test_the_page_does_not_overwrite_what_it_reads(refused, quantized):
    assert "is read and would be overwritten" in refused("report", quantized, "-o", quantized)
