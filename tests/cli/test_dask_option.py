"""`--dask` where there is no cluster; tests/cluster has one."""

import sys
import time

import pytest


@pytest.fixture(params=["calibrate", "sensitivity", "search"])
def command(request, classifier, images):
    more = {"calibrate": ["-o", "r.json"], "search": ["--min-sqnr", "20"]}.get(request.param, [])
    return [request.param, classifier, "--calib", images, *more]


def test_without_dask_the_package_is_named(refused, command, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    line = refused(*command, "--dask", "tcp://127.0.0.1:8786")
    assert line == 'a Dask cluster needs dask.distributed; pip install "onnxq[dask]"'


def test_a_scheduler_that_does_not_answer_is_said_soon(refused, classifier, images):
    pytest.importorskip("distributed", reason='no Dask here; pip install "onnxq[dask]"')
    start = time.monotonic()
    command = ("calibrate", classifier, "--calib", images, "-o", "r.json")
    line = refused(*command, "--dask", "tcp://127.0.0.1:1")  # nobody listens there
    assert line.startswith("no Dask scheduler answers at 'tcp://127.0.0.1:1' (Timed out")
    assert time.monotonic() - start < 30  # 3 s on a machine that is not busy


def test_an_address_that_is_none_is_refused(refused, command):
    pytest.importorskip("distributed", reason='no Dask here; pip install "onnxq[dask]"')
    assert "no Dask scheduler answers at 'here'" in refused(*command, "--dask", "here")
