"""``tools/report.py`` as its users call it."""

import sys

import pytest


def test_absent_library_is_one_line_that_names_the_extra(
    here, monkeypatch, tmp_path
):
    monkeypatch.setitem(sys.modules, 'plotly', None)
    said = here('report', '--out', tmp_path / 'r.html', code=2)
    assert 'plotly: pip install .[report]' in said
    assert not (tmp_path / 'r.html').exists()


def test_report_is_written_and_names_what_it_cannot_show(here, tmp_path):
    pytest.importorskip('plotly', reason='needs plotly')
    (tmp_path / 'ops_cpu.csv').write_text('schema,op\n99,x\n')
    out = tmp_path / 'new' / 'report.html'
    said = here('report', '--results', tmp_path, '--out', out)
    assert 'not shown: ' in said
    assert 'ops_cpu.csv has no column' in said
    assert f'written to {out}' in said
    assert out.read_text('utf-8').startswith('<!doctype html>')
    said = here('report', '--results', tmp_path / 'no', code=2)
    assert said.startswith('error: no folder ')
