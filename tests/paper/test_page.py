"""The page as text: complete, alone, and safe from what CSV files say."""

import json
import re
from html.parser import HTMLParser

import pytest
from report_rows import GPU, g1, network

pytest.importorskip('plotly', reason='needs plotly: pip install .[report]')

from mmdet_shufflenetv2.paper.figure1 import FAMILIES, family_of
from mmdet_shufflenetv2.paper.page import make_page
from mmdet_shufflenetv2.paper.paper_tables import COMPARISONS

ATTACK = '"\'><script>document.title="owned"</script><img src=x onerror=a()>'
END = '</script></td></table><script>document.title="owned"</script>'


class Elements(HTMLParser):
    """Collects the start tags of a page, and the text of its scripts."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.data = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.data.append(data)

    def named(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


@pytest.fixture
def hostile(folder, write, write_plain):
    """Every text that a CSV file can bring is an attack."""
    name = 'xception_x2_0'
    write('guidelines', g1('1:12', 1.5) | dict(doubt=ATTACK, row=END))
    write(
        'backbones',
        network(name, 0.9, batch='8') | dict(commit=END, layout=ATTACK),
        network(ATTACK, 0.9, batch='8'),
        network(name, 0.9, status=END),
        where=GPU | dict(device=ATTACK),
        name='backbones_cuda',
    )
    write('ops', dict(op=END, case=ATTACK))
    write_plain('trained.csv', dict(data=END, config=ATTACK, mAP=END))
    write_plain(f'{END.replace("/", "_")}.csv', {ATTACK: END})
    (folder / 'shuffle_cpu.csv').write_text(f'{END}\n1\n')
    return folder


def test_no_text_of_a_csv_file_becomes_an_element(hostile):
    page, problems = make_page(hostile)
    elements = Elements(page)
    assert len(elements.named('script')) == 3
    assert elements.named('img') == []
    assert not any(
        name.startswith('on') for _, attrs in elements.tags for name in attrs
    )
    assert any('shuffle_cpu.csv' in problem for problem in problems)
    # It is there, as text.
    assert any('document.title="owned"' in text for text in elements.data)


def test_what_a_chart_tells_of_a_device_is_escaped(hostile):
    page, _ = make_page(hostile)
    (text,) = re.findall(r'id="chart-data">(.*?)</script>', page, re.S)
    texts = [
        text
        for chart in json.loads(text)
        for trace in chart['data']
        for text in trace['text']
    ]
    told = [text for text in texts if 'owned' in text]
    assert told
    assert not any('<script' in text or '<img' in text for text in told)


def test_page_needs_no_other_file_and_runs_its_own_scripts_only(folder):
    page, _ = make_page(folder)
    elements = Elements(page)
    for tag, attrs in elements.tags:
        assert 'src' not in attrs, tag
        address = attrs.get('href', '')
        assert tag == 'a' or not address.startswith('http'), address
    (policy,) = (
        meta['content']
        for meta in elements.named('meta')
        if meta.get('http-equiv') == 'Content-Security-Policy'
    )
    assert policy.startswith("default-src 'none'")
    scripts = policy.partition('script-src')[2].split()
    assert [each[:8] for each in scripts] == ["'sha256-"] * 2


def test_page_has_every_table_and_says_what_was_not_measured(folder):
    page, problems = make_page(folder)
    assert problems == []
    sections = {each.get('id') for each in Elements(page).named('section')}
    names = {comparison.name for comparison in COMPARISONS}
    assert sections >= {'claims', 'figure1', 'ops', 'environment', *names}
    assert page.count('not measured, published only') == 4


def test_bad_file_is_told_on_the_page_and_the_rest_is_shown(folder, write):
    write('backbones', network('xception_x2_0', 0.876))
    (folder / 'ops_cpu.csv').write_text('schema,op\n99,x\n')
    page, (problem,) = make_page(folder)
    assert 'newer version' in problem
    assert 'ops_cpu.csv was written by a newer version' in page
    assert '0.876' in page


def test_committed_results_are_shown_without_a_problem(root):
    page, problems = make_page(root / 'results')
    assert problems == []
    assert 'Trainings' in page


@pytest.mark.parametrize(
    'name, family',
    [
        ('shufflenet_v2_x1_0', 'shufflenet_v2'),
        ('se_shufflenet_v2_x2_0', 'se_shufflenet_v2'),
        ('nasnet_a_4_1056', 'nasnet_a'),
        ('pnasnet_5', 'pnasnet'),
        ('igcv3_d_0_7', 'igcv3_d'),
        ('strange', None),
    ],
)
def test_network_belongs_to_one_family(name, family):
    assert family_of(name) == family
    assert sum(name.startswith(f'{each}_') for each in FAMILIES) <= 1
