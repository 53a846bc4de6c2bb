import sys

import pytest

TEXT = '# Title\n<!-- table runs: model, mAP -->\nold\n<!-- end -->\nrest\n'


@pytest.fixture
def tool(root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / 'tools'))
    sys.modules.pop('update_readme', None)
    import update_readme

    return update_readme


@pytest.fixture
def update(tool):
    return tool.update


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


def test_computed_table_is_filled_like_a_files(update, results):
    others = dict(runs=[dict(model='c', mAP='')])
    assert '| c | not measured |' in update(TEXT, results, others)
    with pytest.raises(ValueError, match='the computed table runs has no'):
        update(TEXT.replace('mAP', 'AP'), results, others)


def test_what_is_generated_is_up_to_date(tool, root):
    for path, text in tool.generated(root, root / 'results').items():
        assert path.read_text('utf-8') == text, path


@pytest.mark.parametrize(
    'page, names',
    [
        (
            'README.md',
            {'table7', 'trained', 'bccd', 'pretraining', 'claims', 'versions'},
        ),
        ('docs/networks.md', {'networks', 'choices'}),
        ('docs/analyze.md', {'figure2'}),
    ],
)
def test_page_has_its_tables(tool, root, page, names):
    text = (root / page).read_text('utf-8')
    assert {match[1] for match in tool.BLOCK.findall(text)} >= names


def test_readme_names_every_example_of_a_swap(root):
    readme = (root / 'README.md').read_text('utf-8')
    section = readme.partition('## In any MMDetection config')[2]
    section = section.partition('\n## ')[0]
    for path in (root / 'configs' / 'swap').glob('*.py'):
        assert f'(configs/swap/{path.name})' in section
