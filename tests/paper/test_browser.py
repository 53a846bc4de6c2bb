"""The page in a browser without a window: no error, charts, filters."""

import shutil

import pytest
from report_rows import GPU, g1, network

pytest.importorskip('plotly', reason='needs plotly: pip install .[report]')

from mmdet_shufflenetv2.paper.page import make_page

pytestmark = pytest.mark.browser
OPTIONS = (
    '--headless=new',
    '--no-sandbox',
    '--disable-dev-shm-usage',
    '--disable-gpu',
    '--window-size=1400,1000',
)


@pytest.fixture(scope='module')
def browser(chromium):
    webdriver = pytest.importorskip('selenium.webdriver')
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in OPTIONS:
        options.add_argument(option)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    # Named, so that selenium does not look for one to download.
    service = webdriver.ChromeService(shutil.which('chromedriver'))
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_script_timeout(120)
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, folder, write, tmp_path):
    """Open the page of two devices."""
    row = network('shufflenet_v2_x2_0', 1.0)
    write('backbones', row, network('xception_x2_0', 0.9))
    write('backbones', row | dict(batch='8'), where=GPU, name='backbones_cuda')
    write('guidelines', g1('1:12', 1.5))
    path = tmp_path / 'report.html'
    path.write_text(make_page(folder)[0], encoding='utf-8')
    browser.get(path.as_uri())
    return browser


def rows(page, table='table8'):
    """The texts of the rows that are seen."""
    return page.execute_script(
        'return [...document.querySelectorAll(`#${arguments[0]} tbody tr`)]'
        '.filter((row) => row.offsetParent !== null)'
        '.map((row) => row.innerText)',
        table,
    )


def line_count(page, chart):
    """How many lines plotly has drawn."""
    return page.execute_script(
        'return document.querySelectorAll('
        '`#${arguments[0]} .scatterlayer .trace`).length',
        chart,
    )


def choose(page, element, value):
    page.execute_script(
        'const it = document.getElementById(arguments[0]);'
        'it.value = arguments[1];'
        "it.dispatchEvent(new Event('input', {bubbles: true}));",
        element,
        value,
    )


def test_page_loads_alone_and_draws_charts_that_fit(page):
    errors = [
        entry
        for entry in page.get_log('browser')
        if entry['level'] in ('SEVERE', 'WARNING')
    ]
    assert errors == []
    # Four families of the paper, and what was measured here.
    counts = [line_count(page, f'figure1{letter}') for letter in 'abcd']
    assert counts == [4 + 1, 4 + 2, 4 + 1, 4 + 2]
    script = "return performance.getEntriesByType('resource').length"
    assert page.execute_script(script) == 0
    overflowing = page.execute_script(
        "return [...document.querySelectorAll('.charts figure')].filter("
        '(it) => it.scrollWidth > it.clientWidth).length'
    )
    assert overflowing == 0


def test_filter_by_device_leaves_its_rows_and_lines(page):
    before = len(rows(page))
    choose(page, 'device', 'Core X')
    found = rows(page)
    assert 0 < len(found) < before
    assert all('Core X' in text for text in found)
    assert line_count(page, 'figure1a') == 4
    assert line_count(page, 'figure1b') == 4 + 2
    choose(page, 'device', '')
    assert len(rows(page)) == before
    assert line_count(page, 'figure1a') == 4 + 1


def test_filter_by_words_needs_all_of_them(page):
    choose(page, 'text', 'XCEPTION 500m')
    found = rows(page)
    # Measured on the CPU, and published for the GPU.
    assert len(found) == 2
    assert all('xception_x2_0' in text for text in found)


def test_legend_adds_a_family_and_a_filter_leaves_it(page):
    page.execute_script(
        "const chart = document.getElementById('figure1a');"
        "const at = chart.data.findIndex((it) => it.name === 'DenseNet');"
        'return Plotly.restyle(chart, {visible: true}, [at])'
    )
    choose(page, 'device', 'Core X')
    assert line_count(page, 'figure1a') == 4 + 1


def test_title_sorts_by_number_both_ways_with_gaps_last(page):
    def sort_and_read(title):
        return page.execute_script(
            'const heads = [...document.querySelectorAll('
            "'#g1 thead tr:last-child th')];"
            'const it = heads.find((t) => t.innerText === arguments[0]);'
            "it.querySelector('button').click();"
            "return [...document.querySelectorAll('#g1 tbody tr')]"
            '.map((row) => row.cells[it.cellIndex].innerText)',
            title,
        )

    for _ in range(2):
        first, *others = sort_and_read('ms')
        assert first == '2.0'
        assert set(others) == {'-'}
    speeds = [float(text) for text in sort_and_read('paper')]
    assert speeds == sorted(speeds)
    assert len(set(speeds)) > 12
    assert sort_and_read('paper') != [f'{speed:g}' for speed in speeds]
