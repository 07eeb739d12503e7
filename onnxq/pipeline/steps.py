"""The single steps of the pipeline, each from a file of its own."""

from onnxq.pipeline.calibrating import calibrate as calibrate
from onnxq.pipeline.calibrating import calibrate_parts as calibrate_parts
from onnxq.pipeline.calibrating import how_enough as how_enough
from onnxq.pipeline.calibrating import read as read
from onnxq.pipeline.comparing import compare as compare
from onnxq.pipeline.high_precision import to_high_precision as to_high_precision
from onnxq.pipeline.inserting import as_attributes as as_attributes
from onnxq.pipeline.inserting import insert as insert
from onnxq.pipeline.inserting import insert_options as insert_options
from onnxq.pipeline.inserting import write_biases as write_biases
from onnxq.pipeline.picking import picked as picked
from onnxq.pipeline.picking import signatures_of as signatures_of
from onnxq.pipeline.planning import plan as plan
from onnxq.pipeline.planning import refuse_empty as refuse_empty
from onnxq.pipeline.planning import refuse_unsound as refuse_unsound
from onnxq.pipeline.reading import data as data
from onnxq.pipeline.runtimes import runtime_of as runtime_of
from onnxq.pipeline.source import Source as Source
from onnxq.pipeline.source import open_model as open_model
from onnxq.pipeline.source import prepare as prepare
