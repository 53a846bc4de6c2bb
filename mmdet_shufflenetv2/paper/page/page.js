'use strict';
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const value = (id) => document.getElementById(id).value;

// `it` is a row's data or a chart line's meta; without a device it stays.
const isChosen = (it) => ['device', 'setting'].every(
  (name) => !value(name) || !it[name] || it[name] === value(name));

function filter() {
  const words = value('text').toLowerCase().split(/\s+/).filter(Boolean);
  for (const table of all('table.data')) {
    const rows = all('tbody tr', table);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !isChosen(row.dataset) ||
        !words.every((word) => text.includes(word));
    }
    const shown = rows.filter((row) => !row.hidden).length;
    table.closest('section').querySelector('.count').textContent =
      shown === rows.length ? `${shown} rows` : `${shown} of ${rows.length} rows`;
  }
  for (const chart of all('.js-plotly-plot')) {
    // A family's published line tells whether the legend hides the family.
    const published = chart.data.filter((line) => !line.meta.device);
    const visible = chart.data.map((line) => {
      const family = published.find((it) => it.name === line.name) ?? line;
      return isChosen(line.meta) && family.visible;
    });
    Plotly.restyle(chart, {visible});
  }
}

// Numbers come before text.
function compare(a, b) {
  const [x, y] = [parseFloat(a), parseFloat(b)];
  if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;
  return (x - y) || a.localeCompare(b, undefined, {numeric: true});
}

function sortBy(header) {
  const table = header.closest('table');
  const sign = header.ariaSort === 'ascending' ? -1 : 1;
  for (const other of all('th', table)) other.ariaSort = null;
  header.ariaSort = sign > 0 ? 'ascending' : 'descending';
  const cell = (row) => row.cells[header.cellIndex];
  const isPresent = (row) => !cell(row).classList.contains('absent');
  table.tBodies[0].append(...all('tbody tr', table).sort((a, b) =>
    (isPresent(b) - isPresent(a)) ||
    sign * compare(cell(a).textContent, cell(b).textContent)));
}

document.getElementById('filters').addEventListener('input', filter);
document.getElementById('filters').addEventListener(
  'submit', (event) => event.preventDefault());
for (const button of all('table.data th button')) {
  button.addEventListener('click', () => sortBy(button.closest('th')));
}
