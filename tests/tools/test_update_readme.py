import sys

import pytest

TEXT = '# Title\n<!-- table runs: model, mAP -->\nold\n<!-- end -->\nrest\n'


@pytest.fixture
def update(root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / 'tools'))
    sys.modules.pop('update_readme', None)
    from update_readme import update

    return update


@pytest.fixture
def results(tmp_path):
    (tmp_path / 'runs.csv').write_text('model,note,mAP\na,x,0.5\nb,y,\n')
    return tmp_path


def test_table_is_filled_from_the_csv(update, results):
    assert update(TEXT, results) == (
        '# Title\n<!-- table runs: model, mAP -->\n'
        '| model | mAP |\n| --- | --- |\n| a | 0.5 |\n| b | not measured |\n'
        '<!-- end -->\nrest\n'
    )


def test_filling_twice_changes_nothing(update, results):
    once = update(TEXT, results)
    assert update(once, results) == once


def test_unknown_column_is_refused(update, results):
    with pytest.raises(ValueError, match=r"no column \['AP'\]"):
        update(TEXT.replace('mAP', 'AP'), results)


def test_readme_agrees_with_the_results(update, root):
    readme = (root / 'README.md').read_text('utf-8')
    assert update(readme, root / 'results') == readme
