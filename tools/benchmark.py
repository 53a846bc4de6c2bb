"""Measure speed, and keep the measurements in results/.

    python tools/benchmark.py ops
    python tools/benchmark.py ops --case test_800x1200 --op ps_roi_align

Competitors run in turn in one process; a factor is a ratio of medians. On a
busy machine ``--threads 1 --clock cpu`` still tells the work that is done.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch

from mmdet_shufflenetv2.benchmark import ops
from mmdet_shufflenetv2.benchmark.records import append_rows
from mmdet_shufflenetv2.benchmark.timing import CLOCKS


def add_ops_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--case', nargs='+', choices=ops.CASES, default=list(ops.CASES)
    )
    parser.add_argument(
        '--op', nargs='+', choices=ops.OPS, default=list(ops.OPS)
    )


def run_ops(args: argparse.Namespace) -> Iterator[dict[str, object]]:
    for case in args.case:
        for op in args.op:
            for row in ops.measure(
                case, op, args.device, args.repeats, args.clock
            ):
                print(
                    f'{case:18} {op:22} {row["layout"]:24} '
                    f'{row["passes"]:21} torchvision '
                    f'{row["torchvision_ms"]:7.2f} ms, ours '
                    f'{row["ours_ms"]:7.2f} ms, {row["times_faster"]:.1f} '
                    f'times faster ({row["times_faster_p10"]:.1f} to '
                    f'{row["times_faster_p90"]:.1f})',
                    flush=True,
                )
                yield row


# name: (what it measures, its arguments, the function that runs it)
COMMANDS = {
    'ops': (
        "PSRoI ops against torchvision's",
        add_ops_arguments,
        run_ops,
    ),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest='command', required=True)
    for name, (help_text, add_arguments, _) in COMMANDS.items():
        command = commands.add_parser(name, help=help_text)
        command.add_argument('--device', default='cpu', help='cpu or cuda')
        command.add_argument(
            '--threads', type=int, default=2, help='CPU threads'
        )
        command.add_argument(
            '--repeats', type=int, default=30, help='rounds that are kept'
        )
        command.add_argument(
            '--out',
            type=Path,
            help='CSV file to append to (default: results/COMMAND_DEVICE.csv)',
        )
        command.add_argument(
            '--clock',
            choices=CLOCKS,
            default='wall',
            help='cpu: time of all threads, for a busy machine',
        )
        add_arguments(command)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device).type
    out = args.out or Path('results') / f'{args.command}_{device}.csv'
    # Row by row, so that an interrupted run keeps what it has measured.
    for row in COMMANDS[args.command][2](args):
        append_rows(out, [row])
    print(f'written to {out}')


if __name__ == '__main__':
    main()
