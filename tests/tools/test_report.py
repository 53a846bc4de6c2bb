import sys

import pytest

from mmdet_shufflenetv2.cli import main


@pytest.fixture
def report(capsys):
    """Run the command in this process; returns stdout and stderr."""

    def run(*arguments, code=0):
        found = 0
        try:
            main('report', list(map(str, arguments)))
        except SystemExit as stopped:
            found = stopped.code or 0
        printed = capsys.readouterr()
        assert found == code, printed.err
        return printed

    return run


def test_absent_library_is_one_line_that_names_the_extra(
    report, monkeypatch, tmp_path
):
    monkeypatch.setitem(sys.modules, 'plotly', None)
    done = report('--out', tmp_path / 'r.html', code=2)
    assert done.err.count('\n') == 1
    assert 'plotly: pip install .[report]' in done.err
    assert not (tmp_path / 'r.html').exists()


def test_report_is_written_and_names_what_it_cannot_show(report, tmp_path):
    pytest.importorskip('plotly', reason='needs plotly')
    (tmp_path / 'ops_cpu.csv').write_text('schema,op\n99,x\n')
    out = tmp_path / 'new' / 'report.html'
    done = report('--results', tmp_path, '--out', out)
    assert 'not shown: ' in done.err
    assert 'ops_cpu.csv has no column' in done.err
    assert f'written to {out}' in done.out
    assert out.read_text('utf-8').startswith('<!doctype html>')


def test_absent_folder_is_one_line(report, tmp_path):
    pytest.importorskip('plotly', reason='needs plotly')
    done = report('--results', tmp_path / 'no', code=2)
    assert done.err.startswith('error: there is no folder')
    assert '--results' in done.err
