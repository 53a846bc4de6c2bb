'use strict';
(() => {
  const byId = (id) => document.getElementById(id);
  const all = (selector, root = document) =>
    Array.from(root.querySelectorAll(selector));
  const charts = JSON.parse(byId('chart-data').textContent);
  const dark = window.matchMedia('(prefers-color-scheme: dark)');

  const colours = () => {
    const style = getComputedStyle(document.documentElement);
    const read = (name) => style.getPropertyValue(name).trim();
    const axis = {
      gridcolor: read('--line'), linecolor: read('--line'), zeroline: false,
      showgrid: true, color: read('--soft'), fixedrange: false,
    };
    const changes = {
      'font.color': read('--ink'), 'font.family': 'system-ui, sans-serif',
      'hoverlabel.bgcolor': read('--paper'),
      'hoverlabel.bordercolor': read('--line'),
      'hoverlabel.font.color': read('--ink'),
    };
    for (const name of ['xaxis', 'yaxis']) {
      for (const [key, value] of Object.entries(axis)) {
        changes[`${name}.${key}`] = value;
      }
    }
    return changes;
  };

  // A published line belongs to no device and stays.
  const traceIsChosen = ({family, device, setting}, chosen) =>
    chosen.families.has(family) &&
    (device === 'paper' ||
      ((!chosen.device || device === chosen.device) &&
        (!chosen.setting || setting === chosen.setting)));

  const rowIsChosen = (row, chosen) =>
    (!chosen.device || row.dataset.device === chosen.device) &&
    (!chosen.setting || row.dataset.setting === chosen.setting) &&
    chosen.words.every((word) => row.textContent.toLowerCase().includes(word));

  const choice = () => ({
    device: byId('device').value,
    setting: byId('setting').value,
    words: byId('text').value.toLowerCase().split(/\s+/).filter(Boolean),
    families: new Set(
      all('.families input:checked').map((input) => input.value)),
  });

  const filterTables = (chosen) => {
    for (const table of all('table.data')) {
      const rows = all('tbody tr', table);
      for (const row of rows) row.hidden = !rowIsChosen(row, chosen);
      const shown = rows.filter((row) => !row.hidden).length;
      const count = table.closest('section').querySelector('.count');
      count.textContent = shown === rows.length ?
        `${rows.length} rows` : `${shown} of ${rows.length} rows`;
    }
  };

  const filterCharts = (chosen) => {
    for (const {name} of charts) {
      const chart = byId(name);
      const visible = chart.data.map(
        (trace) => traceIsChosen(trace.meta, chosen));
      if (visible.length) Plotly.restyle(chart, {visible});
    }
  };

  const filter = () => {
    const chosen = choice();
    filterTables(chosen);
    filterCharts(chosen);
  };

  // Numbers first, in their order, then texts.
  const compare = (a, b) => {
    const [x, y] = [parseFloat(a), parseFloat(b)];
    if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;
    return (x - y) || a.localeCompare(b, undefined, {numeric: true});
  };

  const sortBy = (header) => {
    const table = header.closest('table');
    const place = header.cellIndex;
    const down = header.getAttribute('aria-sort') === 'ascending';
    for (const other of all('th', table)) other.removeAttribute('aria-sort');
    header.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    const body = table.tBodies[0];
    const text = (row) => row.cells[place].textContent;
    const known = (row) => !row.cells[place].classList.contains('absent');
    const rows = all('tr', body).sort((a, b) =>
      (known(b) - known(a)) ||
      (down ? -1 : 1) * compare(text(a), text(b)));
    body.append(...rows);
  };

  const draw = async () => {
    const chosen = choice();
    // With a finger one scrolls the page.
    const dragmode = matchMedia('(pointer: coarse)').matches ? false : 'zoom';
    for (const {name, data, layout} of charts) {
      layout.dragmode = dragmode;
      for (const trace of data) {
        trace.visible = traceIsChosen(trace.meta, chosen);
      }
      await Plotly.newPlot(byId(name), data, layout, {
        responsive: true, displayModeBar: false,
      });
      await Plotly.relayout(byId(name), colours());
    }
    document.body.dataset.drawn = charts.length;
  };

  dark.addEventListener('change', () => {
    for (const {name} of charts) Plotly.relayout(byId(name), colours());
  });
  byId('filters').addEventListener('submit', (event) => event.preventDefault());
  byId('filters').addEventListener('input', filter);
  document.querySelector('.families').addEventListener('change', filter);
  for (const button of all('table.data th button')) {
    button.addEventListener('click', () => sortBy(button.closest('th')));
  }
  filterTables(choice());
  draw();
})();
