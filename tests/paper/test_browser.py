"""The page in a browser without a window: no error, charts, filters."""

import shutil

import pytest
from report_rows import GPU, g1, network

pytest.importorskip('plotly', reason='needs plotly: pip install .[report]')

from mmdet_shufflenetv2.paper.page import make_page

pytestmark = pytest.mark.browser
ATTACK = '<script>document.title="owned"</script><img src=x onerror=a()>'
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
    """Open the page of two devices; ends when the charts are drawn."""
    from selenium.webdriver.support.ui import WebDriverWait

    row = network('shufflenet_v2_x2_0', 1.0)
    write('backbones', row, network('xception_x2_0', 0.9))
    gpu = GPU | dict(device=ATTACK)
    write('backbones', row | dict(batch='8'), where=gpu, name='backbones_cuda')
    write('guidelines', g1('1:12', 1.5))
    path = tmp_path / 'report.html'
    path.write_text(make_page(folder)[0], encoding='utf-8')
    browser.get(path.as_uri())
    WebDriverWait(browser, 120).until(
        lambda it: it.execute_script('return document.body.dataset.drawn')
    )
    return browser


def rows(page, table='table8'):
    """The first device cells of the rows that are seen."""
    return page.execute_script(
        'return [...document.querySelectorAll(`#${arguments[0]} tbody tr`)]'
        '.filter((row) => row.offsetParent !== null)'
        '.map((row) => row.innerText)',
        table,
    )


def lines(page, chart):
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


def number_of(page, device):
    """What the filter calls a device."""
    return page.execute_script(
        "return [...document.getElementById('device').options]"
        '.find((option) => option.text.trim() === arguments[0]).value',
        device,
    )


def test_page_loads_alone_draws_its_charts_and_runs_no_foreign_script(page):
    errors = [
        entry
        for entry in page.get_log('browser')
        if entry['level'] in ('SEVERE', 'WARNING')
    ]
    assert errors == []
    assert page.title == 'ShuffleNet V2 measured'
    # Four families of the paper, and what was measured here.
    assert [lines(page, f'figure1{letter}') for letter in 'abcd'] == [
        4 + 1,
        4 + 2,
        4 + 1,
        4 + 2,
    ]
    script = "return performance.getEntriesByType('resource').length"
    assert page.execute_script(script) == 0


def test_filter_by_device_leaves_its_rows_and_lines(page):
    before = len(rows(page))
    choose(page, 'device', number_of(page, 'Core X'))
    found = rows(page)
    assert 0 < len(found) < before
    assert all('Core X' in text for text in found)
    assert lines(page, 'figure1a') == 4
    assert lines(page, 'figure1b') == 4 + 2
    choose(page, 'device', '')
    assert len(rows(page)) == before
    assert lines(page, 'figure1a') == 4 + 1


def test_filter_by_words_needs_all_of_them(page):
    choose(page, 'text', 'XCEPTION 500m')
    found = rows(page)
    assert len(found) == 2
    assert all('xception_x2_0' in text for text in found)
    choose(page, 'text', '')


def test_family_can_be_added_to_the_charts(page):
    before = lines(page, 'figure1a')
    page.execute_script(
        "document.querySelector('.families [value=densenet]').click()"
    )
    assert lines(page, 'figure1a') == before + 1


def test_title_sorts_by_number_both_ways_with_gaps_last(page):
    def click_and_read():
        return page.execute_script(
            'const titles = [...document.querySelectorAll('
            "'#g1 thead tr:last-child button')];"
            "const it = titles.find((t) => t.textContent === 'ms');"
            'it.click();'
            'const at = titles.indexOf(it);'
            "return [...document.querySelectorAll('#g1 tbody tr')]"
            '.map((row) => row.cells[at].textContent)'
        )

    for _ in range(2):
        values = click_and_read()
        assert values[0] == '2.0'
        assert set(values[1:]) == {'-'}
    page.execute_script(
        "document.querySelector('#g1 thead tr:last-child th:nth-child(5)"
        " button').click()"
    )
    speeds = page.execute_script(
        "return [...document.querySelectorAll('#g1 tbody tr')]"
        '.map((row) => parseFloat(row.cells[4].textContent))'
    )
    assert speeds == sorted(speeds)
    assert len(set(speeds)) > 12
