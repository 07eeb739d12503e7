"""Options, saved values and output paths that do not fit are refused before any work is done."""

from pathlib import Path

import pytest
import yaml


@pytest.fixture
def quantize_refused(refused, classifier, images):
    return lambda *options: refused("quantize", classifier, "--calib", images, *options)


def test_unknown_commands_and_options_point_to_the_help(refused, quantize_refused):
    assert refused("quantise") == "there is no command 'quantise'; do you mean 'quantize'?"
    assert refused("xyzzy") == "there is no command 'xyzzy'; see 'onnxq --help'"
    assert "see 'onnxq quantize --help'" in quantize_refused("--metod", "mse")


def test_no_command_shows_the_help(onnxq):
    ran = onnxq()
    assert ran.code == 2
    assert "Usage: onnxq [OPTIONS] COMMAND" in ran.err


@pytest.mark.parametrize("option", ["--skip", "--only"])
def test_a_pattern_that_matches_nothing_lists_the_nearest_names(quantize_refused, option):
    message = quantize_refused(option, "layer9")
    assert "pattern 'layer9' matches no node; the nearest names are " in message
    assert "'/layer3/layer3.0/Add'" in message


def test_an_op_type_that_matches_nothing_lists_the_op_types(quantize_refused):
    message = quantize_refused("--skip-op", "Convv")
    assert "pattern 'op:Convv' matches no node; the nearest names are 'Conv'" in message


def test_skip_between_needs_two_patterns_and_a_path(quantize_refused):
    assert "needs two patterns as FROM:TO" in quantize_refused("--skip-between", "layer1")
    assert "'layer9' matches no node" in quantize_refused("--skip-between", "layer1:layer9")
    message = quantize_refused("--skip-between", "layer3:layer1")
    assert "no path leads from 'layer3' to 'layer1'" in message


def test_a_pattern_list_that_is_missing_or_empty_is_told(quantize_refused):
    assert "no pattern list at 'none.txt'" in quantize_refused("--skip", "@none.txt")
    assert "pattern '' is empty" in quantize_refused("--skip", "")


def test_skipping_everything_leaves_nothing(quantize_refused):
    assert "nothing to quantize" in quantize_refused("--skip", "*")


@pytest.mark.parametrize(
    ("method", "says"),
    [
        ("best", "unknown method 'best'; choose one of max, percentile"),
        ("percentile:x", "write percentile:99.9"),
        ("percentile:101", "choose one over 0 up to 100"),
    ],
)
def test_an_unknown_method_lists_the_choices(quantize_refused, method, says):
    assert says in quantize_refused("--method", method)


def test_auto_needs_something_to_judge_by(quantize_refused, refused, classifier, images):
    assert "--check-samples 0" in quantize_refused("--method", "auto", "--check-samples", 0)
    message = refused(
        "calibrate", classifier, "--calib", images, "--method", "auto", "-o", "r.json"
    )
    assert "use 'onnxq quantize'" in message


def test_calibrate_needs_one_source(refused, classifier):
    message = refused("calibrate", classifier, "-o", "r.json")
    assert message == "give either --calib DATA or --stats FILE, which is read; --save-stats writes"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("metod: mse", "sets 'metod', which is no option of this command"),
        ("method: [", "is not YAML"),
        ("- mse", "is not a mapping of options"),
        ("samples: many", "'many' is not a valid integer"),
        ("skip: layer9", "pattern 'layer9' matches no node"),
    ],
)
def test_a_configuration_that_does_not_fit_is_told(quantize_refused, text, says):
    Path("run.yaml").write_text(text)
    assert says in quantize_refused("--config", "run.yaml")


def test_a_missing_configuration_is_told(quantize_refused):
    assert "no configuration at 'none.yaml'" in quantize_refused("--config", "none.yaml")


@pytest.mark.parametrize("option", ["-o", "--save-plan", "--save-stats", "--save-ranges"])
def test_a_missing_output_folder_is_told_before_the_work(quantize_refused, option):
    message = quantize_refused(option, "none/out")
    assert message == "no folder 'none' to write 'out' to; make it first"


def test_an_output_that_is_a_folder_is_told(quantize_refused):
    Path("out").mkdir()
    assert "'out' is a directory" in quantize_refused("-o", "out")


def test_an_output_never_replaces_what_is_read(refused, classifier, images):
    Path("m.onnx").write_bytes(classifier.read_bytes())
    Path("c.npy").write_bytes(images.read_bytes())
    for out in ("m.onnx", "c.npy", "./c.npy"):
        message = refused("quantize", "m.onnx", "--calib", "c.npy", "-o", out)
        assert "is read and would be overwritten" in message
    assert "is read" in refused("prepare", "m.onnx", "-o", "m.onnx")
    assert "is read" in refused("plan", "m.onnx", "-o", "m.onnx")


def test_two_outputs_in_one_file_are_told(quantize_refused):
    message = quantize_refused("-o", "q.onnx", "--save-plan", "q.onnx")
    assert "'q.onnx' would be written twice" in message


@pytest.fixture
def plan_of(done, classifier):
    done("plan", classifier, "-o", "plan.yaml")
    return lambda: yaml.safe_load(Path("plan.yaml").read_text())


def test_a_plan_or_statistics_of_another_model_name_both(done, refused, plan_of, fixtures,
                                                         classifier, images):  # fmt: skip
    done("calibrate", classifier, "--calib", images, "--save-stats", "stats.npz", "-o", "r.json")
    other = fixtures / "yolo_like" / "yolo_like.onnx"
    data = fixtures / "yolo_like" / "calib.npy"
    message = refused("quantize", other, "--calib", data, "--plan", "plan.yaml")
    assert "the plan was made for model 756bc8878601, this one is 25b8c7134e3a" in message
    message = refused("quantize", other, "--calib", data, "--stats", "stats.npz")
    assert "the statistics were counted on model 756bc8878601, this one is" in message
    assert "this one is 25b8c7134e3a" in refused(
        "calibrate", other, "--stats", "stats.npz", "-o", "x.json"
    )
    done("calibrate", other, "--calib", data, "--save-stats", "other.npz", "-o", "r2.json")
    message = refused("merge-stats", "stats.npz", "other.npz", "-o", "all.npz")
    assert "of different models, 756bc8878601 and 25b8c7134e3a" in message


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda q, first: q.update(nowhere=q[first]), "of 'nowhere', which this graph does not"),
        (lambda q, first: q[first]["inputs"].update({9: "int8 per-tensor"}), "quantizes input 9"),
        (lambda q, first: q[first]["inputs"].update({0: "int9 per-tensor"}), "dtype 'int9'"),
        (lambda q, first: q[first]["inputs"].update({0: "int8"}), "write 'int8 per-tensor'"),
        (lambda q, first: q[first].update(inputs=None), "has no 'inputs'"),
        (lambda q, first: q.clear(), "nothing to quantize"),
    ],
)
def test_a_plan_edited_wrongly_names_the_place(quantize_refused, plan_of, edit, says):
    document = plan_of()
    edit(document["quantized"], next(iter(document["quantized"])))
    Path("plan.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    assert says in quantize_refused("--plan", "plan.yaml")


def test_files_of_another_kind_are_told(quantize_refused, refused, classifier):
    Path("other").write_text("a shopping list")
    assert "'other' is not a plan" in quantize_refused("--plan", "other")
    assert "'other' is not a statistics file" in quantize_refused("--stats", "other")
    assert "no plan at 'none'" in quantize_refused("--plan", "none")
    assert "no statistics at 'none'" in quantize_refused("--stats", "none")
    assert "not a statistics file" in refused("merge-stats", "other", "-o", "all.npz")


def test_statistics_that_lack_a_planned_tensor_are_told(done, quantize_refused, classifier, images):
    done("calibrate", classifier, "--calib", images, "--skip", "layer3", "--save-stats", "few.npz",
         "-o", "r.json")  # fmt: skip
    assert "run 'onnxq calibrate' on this model and plan" in quantize_refused("--stats", "few.npz")


def test_data_is_written_in_known_forms_only(refused, classifier, images):
    message = refused("data", "--model", classifier, "--calib", images, "-o", "inputs.txt")
    assert message == "'inputs.txt' names no form; end it in .json, .py or .npz, or name a folder"
    message = refused(
        "data", "--model", classifier, "--calib", images, "--samples", 3, "-o", "x.py"
    )
    assert "would load every sample" in message


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--scheme", "w16a16"), "--target tensorrt cannot run scheme 'w16a16'; choose one of "
                                 "w8a8, w8a16, w4a16, w4a8, fp8, w4afp8, nvfp4, or "
                                 "--target onnxruntime"),
        (("--scheme", "fixed88"), "cannot run scheme 'fixed88'"),
        (("--scheme-for", "op:Conv"), "--scheme-for 'op:Conv': write PATTERN=SCHEME"),
        (("--scheme-for", "op:Conv=w2a2"), "unknown scheme 'w2a2'; choose one of w8a8"),
        (("--scheme-for", "op:Conv=w16a16"), "cannot run scheme 'w16a16'"),
        (("--scheme-for", "layer9=fp8"), "pattern 'layer9' matches no node"),
        (("--block-size", "32"), "--block-size 32: scheme 'w8a8' has no blocks on --target "
                                 "tensorrt; choose one that has: w4a16"),
        (("--scheme", "w4a8", "--weights", "per-block"), "--weights per-block: scheme 'w4a8'"),
        (("--scheme", "w4a16", "--block-size", "32", "--weights", "per-channel"),
         "--block-size 32 with --weights per-channel: leave one of them out"),
    ],
)  # fmt: skip
def test_a_scheme_that_does_not_fit_is_told_before_the_calibration(quantize_refused, options, says):
    assert says in quantize_refused(*options)


def test_an_unknown_scheme_lists_the_schemes(quantize_refused):
    message = quantize_refused("--scheme", "w2a2")
    assert "'w2a2' is not one of 'w8a8'" in message
    assert "'fixed88'" in message


@pytest.mark.parametrize("text", ["min-channels: [1, 2]", "skip: [{a: b}]", "scheme: {a: b}"])
def test_a_configuration_with_more_than_a_value_for_an_option_is_told(refused, classifier, text):
    Path("run.yaml").write_text(text)
    message = refused("plan", classifier, "--config", "run.yaml", "-o", "plan.yaml")
    assert "give it a single value" in message
