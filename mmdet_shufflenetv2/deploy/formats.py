"""What an exported graph becomes: precisions of ONNX, OpenVINO, ncnn."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from .runtime import RT_INFO, load_package

# Layers whose outputs are scores and boxes, and the one that reads pixels.
FLOAT_LAYERS = 'folded.rpn.last', 'fcs.last', 'folded.backbone.stem'
# Fewer weights are not worth a conversion: matrices of box arithmetic.
SMALL = 1024


def layers(model: onnx.ModelProto) -> Iterable[tuple]:
    """Convolutions and matrix products, and each one's weight."""
    weights = {each.name: each for each in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ('Conv', 'Gemm', 'MatMul'):
            weight = weights.get(node.input[1])
            if weight is not None and np.prod(weight.dims) >= SMALL:
                yield node, weight


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights stored as float16, and turned to float32 when it is loaded.

    CPUs do not compute in float16: a file of such operators would be slower
    there, and less exact.
    """
    casts = {}
    for node, weight in layers(model):
        name = f'{weight.name}_float32'
        if weight.name not in casts:
            casts[weight.name] = helper.make_node(
                'Cast', [weight.name], [name], to=TensorProto.FLOAT
            )
        node.input[1] = name
        if weight.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(weight)
            limit = np.finfo(np.float16).max
            values = values.clip(-limit, limit).astype(np.float16)
            weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    for number, node in enumerate(casts.values()):
        model.graph.node.insert(number, node)
    return model


def quantized(
    model: onnx.ModelProto, inputs: Iterable[dict]
) -> onnx.ModelProto:
    """Static quantization to int8 by ONNX Runtime, weights by channel.

    Args:
        model: The float32 model.
        inputs: What is fed to it, of pictures like those of later use.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):
        feeds = iter(inputs)

        def get_next(self):
            return next(self.feeds, None)

    names, values = [], set()
    for node, weight in layers(model):
        if not weight.name.startswith(FLOAT_LAYERS):
            names.append(node.name)
            values |= set(node.output)
    # What lies between them, so that maps stay int8 from layer to layer.
    for node in model.graph.node:
        if node.op_type in ('Relu', 'MaxPool', 'Concat', 'Add', 'Resize'):
            sources = [name for name in node.input if name in values]
            whole = len(sources) == len(node.input)
            if sources and (whole or node.op_type == 'Resize'):
                names.append(node.name)
                values |= set(node.output)
    with tempfile.TemporaryDirectory() as folder:
        source, target = (os.path.join(folder, n) for n in ('a', 'b'))
        onnx.save(model, source)
        quantize_static(
            source,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=names,
        )
        return onnx.load(target)


def to_openvino(path: Path, target: Path, is_half: bool) -> None:
    """Convert an ONNX file, metadata and all, to ``.xml`` and ``.bin``."""
    openvino = load_package('openvino')
    model = openvino.convert_model(path)
    for each in onnx.load(path).metadata_props:
        model.set_rt_info(each.value, [RT_INFO, each.key])
    openvino.save_model(model, target, compress_to_fp16=is_half)


def to_ncnn(network: torch.nn.Module, image: torch.Tensor, target: Path):
    """Write the network up to the RoIs' map as ``.param`` and ``.bin``.

    Returns:
        What the two files compute of the image: the map of RoIs, and scores
        and deltas of anchors; ``None`` without the package ``ncnn``.
    """
    pnnx = load_package('pnnx')
    with tempfile.TemporaryDirectory() as folder:
        traced = os.path.join(folder, 'network.pt')
        pnnx.export(network, traced, (image,))
        for suffix in '.param', '.bin':
            source = Path(folder, f'network.ncnn{suffix}')
            target.with_suffix(suffix).write_bytes(source.read_bytes())
    try:
        import ncnn
    except ImportError:
        return None
    with ncnn.Net() as net:
        net.load_param(str(target))
        net.load_model(str(target.with_suffix('.bin')))
        with net.create_extractor() as extractor:
            extractor.input('in0', ncnn.Mat(image[0].numpy()).clone())
            return [
                np.array(extractor.extract(f'out{i}')[1])[None] for i in (0, 1)
            ]
