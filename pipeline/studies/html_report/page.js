"use strict";
(() => {
  const pictures = JSON.parse(document.getElementById("pictures").textContent);
  const card = document.getElementById("card");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const config = {
    responsive: true,
    displayModeBar: false, /* drag to zoom, double-click to reset */
  };

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  /* Return the layout of a chart in the colours of the page: light, dark or print. */
  function theme(layout) {
    const axis = (own) => ({
      gridcolor: colour("--line"), linecolor: colour("--line"), zerolinecolor: colour("--line"),
      automargin: true, ...own,
    });
    return {
      ...layout,
      paper_bgcolor: "transparent",
      plot_bgcolor: "transparent",
      font: { color: colour("--text"), family: getComputedStyle(document.body).fontFamily, size: 12 },
      hoverlabel: { bgcolor: colour("--ground"), bordercolor: colour("--line"), font: { color: colour("--text") }, align: "left" },
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", /* a finger scrolls the page */
      margin: { l: 56, r: 12, t: 12, b: 48, ...layout.margin },
      xaxis: axis(layout.xaxis),
      yaxis: axis(layout.yaxis),
    };
  }

  function themed(trace) {
    return trace.type === "heatmap"
      ? { ...trace, colorscale: [[0, colour("--raised")], [1, dark.matches ? "#5b8fe0" : "#3b78d0"]] }
      : trace;
  }

  async function draw(plot) {
    if (plot.dataset.drawn) return;
    plot.dataset.drawn = "begun";
    const source = document.querySelector(`script[data-for="${CSS.escape(plot.id)}"]`);
    const figure = JSON.parse(source.textContent);
    plot.frostline = figure;
    await Plotly.newPlot(plot, figure.data.map(themed), theme(figure.layout), config);
    plot.on("plotly_hover", (event) => show(event));
    plot.on("plotly_click", (event) => show(event));
    plot.on("plotly_unhover", hide);
    plot.dataset.drawn = "done";
  }

  function redraw() {
    for (const plot of document.querySelectorAll(".plot[data-drawn=done]")) {
      Plotly.react(plot, plot.frostline.data.map(themed), theme(plot.frostline.layout), config);
    }
  }

  /* Show the image of a point on a map. */
  function show({ points: [point], event }) {
    if (!Array.isArray(point.customdata) || point.customdata.length !== 5) return;
    const [picture, name, label, predicted, probability] = point.customdata;
    card.replaceChildren();
    if (picture !== null) {
      const image = document.createElement("img");
      image.src = pictures[picture];
      image.alt = "";
      card.append(image);
    }
    const share = `${Math.round(probability * 100)} %`;
    const own = (text) => `\u2068${text}\u2069`; /* keeps the direction of a name to itself */
    const verdict = label === predicted ? `${own(label)}, ${share}` : `${own(predicted)} ${share}, true class ${own(label)}`;
    for (const text of [verdict, name]) {
      const line = document.createElement("div");
      line.textContent = text;
      card.append(line);
    }
    card.hidden = false;
    const { clientX: x, clientY: y } = event.touches?.[0] ?? event;
    const { width, height } = card.getBoundingClientRect();
    card.style.left = `${Math.max(4, x + 16 + width > innerWidth ? x - 16 - width : x + 16)}px`;
    card.style.top = `${Math.max(4, Math.min(y + 16, innerHeight - height - 4))}px`;
  }

  function hide() {
    card.hidden = true;
  }

  function sort(heading) {
    const body = document.querySelector("#board tbody");
    const column = heading.cellIndex;
    const value = (row) => row.cells[column].dataset.value;
    const numeric = [...body.rows].every((row) => value(row) === "" || !Number.isNaN(Number(value(row))));
    const before = heading.getAttribute("aria-sort");
    const down = before ? before === "ascending" : numeric;
    for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const compare = (a, b) => (numeric ? Number(a) - Number(b) : a.localeCompare(b, undefined, { numeric: true }));
    const rows = [...body.rows].sort((a, b) => {
      const [left, right] = [value(a), value(b)];
      if (left === "" || right === "") return (left === "") - (right === ""); /* unknown values stay last */
      return down ? compare(right, left) : compare(left, right);
    });
    body.append(...rows);
  }

  async function copy(button) {
    const text = button.previousElementSibling.textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch { /* a page opened from a file has no clipboard access: select the text instead */
      getSelection().selectAllChildren(button.previousElementSibling);
      button.textContent = "Selected";
    }
  }

  function open(id) {
    const target = id && document.getElementById(id);
    if (target instanceof HTMLDetailsElement) target.open = true;
  }

  for (const heading of document.querySelectorAll("#board thead th")) {
    heading.firstElementChild.addEventListener("click", () => sort(heading));
  }
  for (const button of document.querySelectorAll(".copy")) button.addEventListener("click", () => copy(button));
  for (const link of document.querySelectorAll('a[href^="#run"]')) {
    link.addEventListener("click", () => open(link.hash.slice(1)));
  }
  open(location.hash.slice(1));
  dark.addEventListener("change", redraw);
  addEventListener("scroll", hide, { passive: true });
  addEventListener("keydown", (event) => event.key === "Escape" && hide());

  /* Draw each chart when it comes near the viewport; charts of closed runs when they are opened. */
  const near = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => draw(entry.target)),
    { rootMargin: "400px" },
  );
  for (const plot of document.querySelectorAll(".plot")) near.observe(plot);

  addEventListener("beforeprint", () => {
    for (const run of document.querySelectorAll("details.run")) run.open = true;
    for (const plot of document.querySelectorAll(".plot")) draw(plot);
    redraw();
  });
  addEventListener("afterprint", redraw);
})();
