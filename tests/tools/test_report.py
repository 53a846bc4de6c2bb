import runpy
import sys
from types import SimpleNamespace

import pytest


@pytest.fixture
def report(root, monkeypatch, capsys):
    """Run ``tools/report.py`` in this process, where nothing loads anew."""

    def run(*arguments, code=0):
        path = str(root / 'tools' / 'report.py')
        monkeypatch.setattr(sys, 'argv', [path, *map(str, arguments)])
        found = 0
        try:
            runpy.run_path(path, run_name='__main__')
        except SystemExit as stopped:
            found = stopped.code or 0
        printed = capsys.readouterr()
        assert found == code, printed.err
        return SimpleNamespace(stdout=printed.out, stderr=printed.err)

    return run


def test_help_has_an_example(report):
    assert 'python tools/report.py --results' in report('--help').stdout


def test_absent_library_is_one_line_that_names_the_extra(
    report, monkeypatch, tmp_path
):
    monkeypatch.setitem(sys.modules, 'plotly', None)
    done = report('--out', tmp_path / 'r.html', code=2)
    assert done.stderr.count('\n') == 1
    assert 'plotly: pip install .[report]' in done.stderr
    assert not (tmp_path / 'r.html').exists()


def test_report_is_written_and_names_what_it_cannot_show(report, tmp_path):
    pytest.importorskip('plotly', reason='needs plotly')
    (tmp_path / 'ops_cpu.csv').write_text('schema,op\n99,x\n')
    out = tmp_path / 'new' / 'report.html'
    done = report('--results', tmp_path, '--out', out)
    assert 'not shown: ' in done.stderr
    assert 'ops_cpu.csv was written by a newer version' in done.stderr
    assert f'written to {out}' in done.stdout
    assert out.read_text('utf-8').startswith('<!doctype html>')


def test_absent_folder_is_one_line(report, tmp_path):
    pytest.importorskip('plotly', reason='needs plotly')
    done = report('--results', tmp_path / 'no', code=2)
    assert done.stderr.startswith('error: there is no folder')
    assert '--results' in done.stderr
