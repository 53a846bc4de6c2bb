"""What a detector's graph becomes: ONNX, its precisions, OpenVINO, ncnn."""

import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxscript import opset18 as op

from .runtime import OUTPUTS, RT_INFO, load_package

# Layers whose outputs are scores and boxes, and the one that reads pixels.
FLOAT_LAYERS = (
    *('folded.rpn_head.rpn_cls', 'folded.rpn_head.rpn_reg', 'head.fc_cls'),
    *('head.fc_reg', 'folded.backbone.stem'),
)
# Fewer weights are not worth a conversion: matrices of box arithmetic.
MIN_WEIGHTS = 1024


def onnx_nms_mask(boxes, scores, iou_threshold: float, most: int):
    """The graph's `nms_mask` in operators of ONNX."""
    # Padding has a score of -1.
    limits = [
        op.Constant(value_ints=[most]),
        op.Constant(value_floats=[iou_threshold]),
        op.Constant(value_floats=[-0.5]),
    ]
    each = op.Unsqueeze(scores, op.Constant(value_ints=[1]))
    picked = op.NonMaxSuppression(boxes, each, *limits)
    # (image, class, box) of each survivor.
    place = op.Gather(picked, op.Constant(value_ints=[0, 2]), axis=1)
    number = op.Shape(picked, start=0, end=1)
    ones = op.Expand(op.Constant(value_floats=[1.0]), number)
    zeros = op.Mul(scores, op.Constant(value_float=0.0))
    return op.ScatterND(zeros, place, ones)


def onnx_bin_align(planes, boxes, index, side: int, samples: int):
    """The graph's `bin_align` in operators of ONNX."""
    return op.RoiAlign(
        planes,
        boxes,
        index,
        output_height=side,
        output_width=side,
        sampling_ratio=samples,
        coordinate_transformation_mode='half_pixel',
    )


def to_onnx(
    graph: torch.nn.Module, height: int, width: int, batch: int, opset: int
) -> onnx.ModelProto:
    """A ``DetectorGraph`` in ONNX, with the features as an output."""
    image = torch.zeros(batch, height, width, 3, dtype=torch.uint8)
    size = torch.tensor([[height, width]] * batch, dtype=torch.float32)
    shapes = None
    if graph.dynamic:
        free = {
            axis: 32 * torch.export.Dim(name, min=2, max=256)
            for axis, name in ((1, 'rows'), (2, 'columns'))
        }
        shapes = {'image': free, 'size': {}}
    ops = torch.ops.mmdet_shufflenetv2
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter('ignore')
        program = torch.onnx.export(
            graph,
            (image, size),
            dynamo=True,
            opset_version=opset,
            input_names=['image', 'size'],
            output_names=[*OUTPUTS, 'features'],
            dynamic_shapes=shapes,
            custom_translation_table={
                ops.nms_mask.default: onnx_nms_mask,
                ops.bin_align.default: onnx_bin_align,
            },
            verbose=False,
        )
    model = program.model_proto
    # Names of source files and lines of the machine that exported.
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ''
    return model


def write(model: onnx.ModelProto, path: Path, metadata: dict) -> None:
    """Write the model without the output that only a comparison reads."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    del model.graph.output[len(OUTPUTS) :]
    del model.metadata_props[:]
    model.producer_name = 'mmdet_shufflenetv2'
    model.producer_version = metadata['export']['version']
    for key, value in metadata.items():
        value = value if isinstance(value, str) else json.dumps(value)
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def layers(model: onnx.ModelProto) -> Iterable[tuple]:
    """Convolutions and matrix products, and each one's weight."""
    weights = {each.name: each for each in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ('Conv', 'Gemm', 'MatMul'):
            weight = weights.get(node.input[1])
            if weight is not None and np.prod(weight.dims) >= MIN_WEIGHTS:
                yield node, weight


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights stored as float16, and turned to float32 when it is loaded.

    CPUs do not compute in float16: a file of such operators would be slower
    there, and less exact.
    """
    weights = {weight.name: weight for _, weight in layers(model)}
    limit = np.finfo(np.float16).max
    for name, weight in weights.items():
        values = numpy_helper.to_array(weight).clip(-limit, limit)
        values = values.astype(np.float16)
        half = numpy_helper.from_array(values, f'{name}_half')
        weight.CopyFrom(half)
        cast = helper.make_node(
            'Cast', [half.name], [name], to=TensorProto.FLOAT
        )
        model.graph.node.insert(0, cast)
    return model


def quantized(model: onnx.ModelProto, inputs: Iterable[dict]):
    """Static quantization to int8 by ONNX Runtime, weights by channel.

    ``inputs`` are fed to it, of pictures like those of later use.
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
    # ONNX Runtime moves a quantization in front of a max pool, whose int8
    # kernel is 20 times as slow as that of floats; it does not move past Max.
    lowest = numpy_helper.from_array(np.float32(-3e38), 'lowest')
    model.graph.initializer.append(lowest)
    for place, node in reversed(list(enumerate(model.graph.node))):
        if node.op_type == 'MaxPool':
            (name,) = node.output
            node.output[0] = f'{name}_pooled'
            barrier = helper.make_node(
                'Max', [node.output[0], lowest.name], [name]
            )
            model.graph.node.insert(place + 1, barrier)
    # What lies between them, so that maps stay int8 from layer to layer.
    for node in model.graph.node:
        if node.op_type in ('Relu', 'Concat', 'Add', 'Resize'):
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


def to_ncnn(
    network: torch.nn.Module,
    image: torch.Tensor,
    target: Path,
    log: Callable[[str], None],
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Write the network up to the RoIs' map: ncnn has no RoI operators.

    Returns:
        Each output for this image as the files and as PyTorch compute it;
        nothing without the package ``ncnn``.
    """
    pnnx = load_package('pnnx')
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        traced = os.path.join(folder, 'network.pt')
        pnnx.export(network, traced, (image,))
        for suffix in '.param', '.bin':
            source = Path(folder, f'network.ncnn{suffix}')
            target.with_suffix(suffix).write_bytes(source.read_bytes())
        expected = network(image)
    log(
        f'{target.name}: in0 {tuple(image.shape[1:])}, normalised; out0 the '
        'map that RoIs read; out1 and out2 scores and deltas of anchors. '
        'Proposals, suppression, PSRoI pooling and the box head are not in it'
    )
    try:
        import ncnn
    except ImportError:
        log('not compared: pip install ncnn')
        return []
    with ncnn.Net() as net:
        net.load_param(str(target))
        net.load_model(str(target.with_suffix('.bin')))
        with net.create_extractor() as extractor:
            extractor.input('in0', ncnn.Mat(image[0].numpy()).clone())
            return [
                (np.array(extractor.extract(f'out{i}')[1])[None], one.numpy())
                for i, one in enumerate(expected)
            ]
