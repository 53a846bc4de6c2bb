#!/bin/sh
# Benchmark a GPU on a machine without a network: Tables 1 to 4, 7 and 8, Table
# 1 of the appendix and the PSRoI ops, in 32 and 16 bits, within 8 minutes.
# Needs neither a compiled mmcv nor an installation.
#
#     sh tools/benchmark_gpu.sh                        packages of python3
#     sh tools/benchmark_gpu.sh wheels                 and those in wheels/
#     sh tools/benchmark_gpu.sh wheels results 8 cuda  all arguments
#
# The machine needs PyTorch with torchvision, NumPy, SciPy, Matplotlib, OpenCV,
# rich and tqdm. The other packages come from a folder of wheels, downloaded on
# a machine with a network for the target's version of Python:
#
#     pip download --only-binary=:all: --no-deps --python-version 3.12 \
#         --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 \
#         -d wheels mmdet==3.3.0 mmcv-lite==2.1.0 mmengine==0.10.7 \
#         pytorchcv==0.0.74 pycocotools addict platformdirs pyyaml shapely \
#         termcolor terminaltables yapf
#
# The same command continues after the budget ended; commit results/ first.
set -eu
WHEELS=${1-} RESULTS=${2-results} MINUTES=${3-8} DEVICE=${4-cuda}
PYTHON=${PYTHON-python3}
ROOT=$(cd "$(dirname "$0")/.." && pwd)
SITE=
if [ -n "$WHEELS" ]; then
	SITE=$(mktemp -d)
	trap 'rm -rf "$SITE"' EXIT
	"$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile \
		--target "$SITE" "$WHEELS"/*.whl
fi
export PYTHONPATH="$SITE:$ROOT${PYTHONPATH+:$PYTHONPATH}" PYTHONUNBUFFERED=1
"$PYTHON" "$ROOT/tools/benchmark.py" all --device "$DEVICE" \
	--budget-minutes "$MINUTES" --out-dir "$RESULTS" ${QUICK+--quick}
