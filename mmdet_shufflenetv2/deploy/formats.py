"""Convert a detector's graph to ONNX, lower precision, OpenVINO and ncnn."""

import json
import os
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxscript import opset18 as op

from .runtime import OUTPUTS, RT_INFO, load_package

OPSET = op.version
# Layers that int8 leaves in float: those that output scores and boxes, and the
# one that reads pixels.
FLOAT_LAYERS = (
    *('folded.rpn_head.rpn_cls', 'folded.rpn_head.rpn_reg', 'head.fc_cls'),
    *('head.fc_reg', 'folded.backbone.stem'),
)
# Smaller weights stay float32: they are matrices of box arithmetic.
MIN_WEIGHTS = 1024


def onnx_nms_mask(boxes, scores, iou_threshold: float, most: int):
    """The graph's `nms_mask` in ONNX operators."""
    # The score threshold drops padding, which scores -1.
    limits = [
        op.Constant(value_ints=[most]),
        op.Constant(value_floats=[iou_threshold]),
        op.Constant(value_floats=[-0.5]),
    ]
    each = op.Unsqueeze(scores, op.Constant(value_ints=[1]))
    picked = op.NonMaxSuppression(boxes, each, *limits)
    # Rows are (image, class, box).
    place = op.Gather(picked, op.Constant(value_ints=[0, 2]), axis=1)
    number = op.Shape(picked, start=0, end=1)
    ones = op.Expand(op.Constant(value_floats=[1.0]), number)
    zeros = op.Mul(scores, op.Constant(value_float=0.0))
    return op.ScatterND(zeros, place, ones)


def onnx_bin_align(planes, boxes, index, side: int, samples: int):
    """The graph's `bin_align` in ONNX operators."""
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
    graph: torch.nn.Module, height: int, width: int, batch: int
) -> onnx.ModelProto:
    """Export a ``DetectorGraph`` to ONNX, with the features as last output."""
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
            opset_version=OPSET,
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
    # Remove paths and line numbers of the exporting machine's source files.
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ''
    return model


def write(model: onnx.ModelProto, path: Path, metadata: dict) -> None:
    """Write the model without its features, which only a comparison reads."""
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
    """Yield convolutions and matrix products with their weights."""
    weights = {each.name: each for each in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ('Conv', 'Gemm', 'MatMul'):
            weight = weights.get(node.input[1])
            if weight is not None and np.prod(weight.dims) >= MIN_WEIGHTS:
                yield node, weight


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store weights as float16, to be cast to float32 when a file is loaded.

    CPUs do not compute in float16: float16 operators would be slower there,
    and less accurate.
    """
    weights = {weight.name: weight for _, weight in layers(model)}
    limit = np.finfo(np.float16).max
    for name, weight in weights.items():
        values = numpy_helper.to_array(weight).clip(-limit, limit)
        values = values.astype(np.float16)
        stored = f'{name}_half'
        weight.CopyFrom(numpy_helper.from_array(values, stored))
        cast = helper.make_node('Cast', [stored], [name], to=TensorProto.FLOAT)
        model.graph.node.insert(0, cast)
    return model


def quantized(model: onnx.ModelProto, inputs: Iterable[dict]):
    """Quantize statically to int8 with ONNX Runtime, weights per channel.

    ``inputs`` are the model's inputs for calibration pictures.
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
    # ONNX Runtime moves a quantization before a max pool, whose int8 kernel is
    # 20 times slower than the float one, but never before a Max.
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
    # Quantize the operators between layers too, so that maps stay int8. Inputs
    # of Resize after the first are its sizes.
    for node in model.graph.node:
        if node.op_type in ('Relu', 'Concat', 'Add', 'Resize'):
            sources = node.input[: 1 if node.op_type == 'Resize' else None]
            if values.issuperset(sources):
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
    """Convert an ONNX file, with its metadata, to ``.xml`` and ``.bin``."""
    openvino = load_package('openvino')
    model = openvino.convert_model(path)
    for each in onnx.load(path).metadata_props:
        model.set_rt_info(each.value, [RT_INFO, each.key])
    openvino.save_model(model, target, compress_to_fp16=is_half)


def to_ncnn(
    network: torch.nn.Module, image: torch.Tensor, target: Path
) -> None:
    """Write backbone, neck and RPN, because ncnn has no RoI operators."""
    pnnx = load_package('pnnx')
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        traced = os.path.join(folder, 'network.pt')
        pnnx.export(network, traced, (image,))
        for suffix in '.param', '.bin':
            source = Path(folder, f'network.ncnn{suffix}')
            target.with_suffix(suffix).write_bytes(source.read_bytes())


def run_ncnn(path: Path, image: torch.Tensor) -> list[np.ndarray]:
    """Run a file of :func:`to_ncnn` on an image (1, 3, H, W).

    Returns:
        The RoI map (1, C, h, w), scores (1, A, h, w), deltas (1, 4A, h, w).

    Raises:
        ImportError: The package ``ncnn`` is missing.
    """
    import ncnn

    with ncnn.Net() as net:
        net.load_param(str(path))
        net.load_model(str(path.with_suffix('.bin')))
        with net.create_extractor() as extractor:
            extractor.input('in0', ncnn.Mat(image[0].numpy()).clone())
            return [
                np.array(extractor.extract(f'out{i}')[1])[None]
                for i in range(3)
            ]
