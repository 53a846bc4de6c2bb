"""Benchmarks as requested on the command line."""

import argparse

import pytest

from mmdet_shufflenetv2.cli import benchmark
from mmdet_shufflenetv2.measure.setting import settings_of


@pytest.fixture
def asked():
    """The benchmarks of a kind for these command-line words."""

    def find(kind, *words):
        parser = argparse.ArgumentParser()
        benchmark.add_options(parser, kind)
        args = parser.parse_args(list(map(str, words)))
        return benchmark.KINDS[kind].benchmarks(settings_of(args), args)

    return find
