"""The page in a headless browser: no errors, charts, filters."""

import shutil

import pytest
from report_rows import GPU, g1, network

pytest.importorskip('plotly', reason='needs plotly: pip install .[report]')

from mmdet_shufflenetv2.paper.page import make_page

pytestmark = pytest.mark.browser
OPTIONS = 'headless=new no-sandbox disable-dev-shm-usage disable-gpu'


@pytest.fixture
def page(chromium, folder, write, tmp_path):
    """Open a page with two devices."""
    row = network('shufflenet_v2_x2_0', 1.0)
    write('backbones', row, network('xception_x2_0', 0.9))
    write('backbones', row | dict(batch='8'), where=GPU)
    write('guidelines', g1('1:12', 1.5))
    path = tmp_path / 'report.html'
    path.write_text(make_page(folder)[0], encoding='utf-8')
    webdriver = pytest.importorskip('selenium.webdriver')
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in (*OPTIONS.split(), 'window-size=1400,1000'):
        options.add_argument(f'--{option}')
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    # Name the driver, so that selenium does not try to download one.
    service = webdriver.ChromeService(shutil.which('chromedriver'))
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_script_timeout(120)
    driver.get(path.as_uri())
    yield driver
    driver.quit()


def line_counts(page):
    """The number of lines that plotly drew in each panel of Figure 1."""
    return page.execute_script(
        "return ['a', 'b', 'c', 'd'].map((letter) => document"
        '.querySelectorAll(`#figure1${letter} .scatterlayer .trace`).length)'
    )


def rows_after(page, element, value):
    """The texts of the rows that are visible after a choice."""
    return page.execute_script(
        'const it = document.getElementById(arguments[0]);'
        'it.value = arguments[1];'
        "it.dispatchEvent(new Event('input', {bubbles: true}));"
        "return [...document.querySelectorAll('#table8 tbody tr')]"
        '.filter((row) => row.offsetParent !== null)'
        '.map((row) => row.innerText)',
        element,
        value,
    )


def sort_and_read(page, title):
    return page.execute_script(
        'const heads = [...document.querySelectorAll('
        "'#g1 thead tr:last-child th')];"
        'const it = heads.find((t) => t.innerText === arguments[0]);'
        "it.querySelector('button').click();"
        "return [...document.querySelectorAll('#g1 tbody tr')]"
        '.map((row) => row.cells[it.cellIndex].innerText)',
        title,
    )


def test_page_draws_filters_and_sorts(page):
    log = page.get_log('browser')
    assert not [e for e in log if e['level'] in ('SEVERE', 'WARNING')]
    script = "return performance.getEntriesByType('resource').length"
    assert page.execute_script(script) == 0
    overflowing = page.execute_script(
        "return [...document.querySelectorAll('.charts figure')].filter("
        '(it) => it.scrollWidth > it.clientWidth).length'
    )
    assert overflowing == 0
    # Four families of the paper, and what was measured here.
    assert line_counts(page) == [4 + 1, 4 + 2, 4 + 1, 4 + 2]

    # A family shown by the legend stays when rows are filtered.
    page.execute_script(
        "const chart = document.getElementById('figure1a');"
        "const at = chart.data.findIndex((it) => it.name === 'DenseNet');"
        'return Plotly.restyle(chart, {visible: true}, [at])'
    )
    whole = rows_after(page, 'device', '')
    found = rows_after(page, 'device', 'Core X')
    assert 0 < len(found) < len(whole)
    assert all('Core X' in text for text in found)
    assert line_counts(page) == [5 + 0, 4 + 2, 4 + 0, 4 + 2]
    assert rows_after(page, 'device', '') == whole
    # Measured on the CPU, and published for the GPU.
    assert len(rows_after(page, 'text', 'XCEPTION 500m')) == 2
    rows_after(page, 'text', '')

    # Numbers are sorted by value both ways, with gaps last.
    for _ in range(2):
        first, *others = sort_and_read(page, 'ms')
        assert (first, set(others)) == ('2.0', {'-'})
    speeds = [float(text) for text in sort_and_read(page, 'paper')]
    assert speeds == sorted(speeds)
    assert sort_and_read(page, 'paper') != [f'{each:g}' for each in speeds]
