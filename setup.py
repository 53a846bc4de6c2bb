"""Packaging of mmdet_shufflenetv2: metadata, extras, and wheels that carry
``configs/``, ``tools/`` and the index of models in the package's ``.mim``
folder, where OpenMMLab's packages have theirs.
"""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
CARRIED = ('configs', 'tools')
INDEX = 'model-index.yml'

# Installing the plugin must never replace a user's PyTorch or OpenMMLab, so
# nothing is required; these extras install a set that is known to work.
EXTRAS = {
    'openmmlab': [
        'torch>=2.4',
        'torchvision>=0.19',
        'mmdet==3.3.0',
        'mmcv-lite==2.1.0',
        'mmengine==0.10.7',
        'pycocotools',
        # For train.py --tensorboard.
        'tensorboard',
        # mmengine 0.10.7 imports pkg_resources, which setuptools 82 dropped.
        'setuptools<81',
    ],
    'pretrain': ['mmpretrain==1.2.0'],
    # IGCV3, CondenseNet, NASNet and SENet: `PytorchcvBackbone`.
    'pytorchcv': ['pytorchcv==0.0.74'],
    # tools/report.py.
    'report': ['plotly>=6', 'jinja2>=3.1'],
    # tools/export.py; onnxscript is PyTorch's exporter.
    'export': ['onnx>=1.16', 'onnxscript>=0.5', 'onnxruntime>=1.18'],
    # What running an exported file needs, and nothing else.
    'deploy': ['numpy', 'onnxruntime>=1.18', 'pillow>=10'],
    # tools/export.py --format openvino (which runs such a file, too), ncnn.
    'openvino': ['openvino>=2024.4'],
    'ncnn': ['pnnx', 'ncnn'],
    # test.py --fast-eval.
    'fast-eval': ['faster-coco-eval>=1.6'],
    # Counts the energy that a GPU of NVIDIA draws.
    'energy': ['nvidia-ml-py'],
    'test': [
        'pytest>=8',
        'pytest-xdist>=3.6',
        # A second implementation of the backbones to compare with.
        'pytorchcv==0.0.74',
        # Drives Chromium, where there is one, to look at the report.
        'selenium>=4.30',
        # Formatting changes between releases; .pre-commit-config.yaml agrees.
        'ruff==0.17.6',
        'setuptools>=70.1',
    ],
}


def version() -> str:
    """``__version__``, read without importing what may not be installed."""
    text = (ROOT / 'mmdet_shufflenetv2' / '__init__.py').read_text('utf-8')
    return re.search(r"^__version__ = '([^']+)'$", text, re.M).group(1)


class BuildWithConfigs(build_py):
    """Copies what is `CARRIED` and the `INDEX` into the built package.

    An editable installation finds them in the checkout and gets no copy.
    """

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, 'mmdet_shufflenetv2', '.mim')
        shutil.rmtree(target, ignore_errors=True)
        for name in CARRIED:
            shutil.copytree(
                ROOT / name,
                target / name,
                ignore=shutil.ignore_patterns('__pycache__', '*.py[cod]'),
            )
        shutil.copy(ROOT / INDEX, target)


setup(
    name='mmdet_shufflenetv2',
    version=version(),
    description=(
        'ShuffleNet V2 backbones and Light-Head R-CNN for MMDetection 3.x'
    ),
    long_description=(ROOT / 'README.md').read_text('utf-8'),
    long_description_content_type='text/markdown',
    license='MIT',
    license_files=['LICENSE'],
    keywords='object detection, ShuffleNet V2, Light-Head R-CNN, MMDetection',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Developers',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Operating System :: MacOS',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Topic :: Scientific/Engineering :: Image Recognition',
    ],
    python_requires='>=3.10',
    packages=find_packages(include=['mmdet_shufflenetv2*']),
    package_data={'': ['*.txt', '*.yaml', '*.csv', 'page/*']},
    install_requires=[],
    entry_points={
        'console_scripts': [
            'mmdet-shufflenetv2 = mmdet_shufflenetv2.__main__:main'
        ]
    },
    extras_require=EXTRAS,
    cmdclass={'build_py': BuildWithConfigs},
    zip_safe=False,
)
