from onnxq.graph import Graph


def fold_bn(graph: Graph) -> int:
    return 0
