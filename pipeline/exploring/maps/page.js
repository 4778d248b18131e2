"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { names, x, y, colourings, predictions, tiles } = data;
  const count = names.length;
  const byId = (id) => document.getElementById(id);
  const [canvas, card, detail, legend, search, found] = ["map", "card", "detail", "legend", "search", "found"].map(byId);
  const stage = byId("stage");
  const context = canvas.getContext("2d", { alpha: false });
  const dark = matchMedia("(prefers-color-scheme: dark)");

  /* Paul Tol's bright scheme without grey, and colours of his vibrant and muted schemes, as in the report. */
  const palette = ["#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#EE7733", "#009988", "#8877DD", "#AA8866"];
  const special = { prediction: ["#4477AA", "#EE3322"] };
  const shapes = ["circle", "square", "diamond", "triangle"];
  const MOST_PICTURES = 150; /* drawn on the map itself, once no more points are in view */
  const LISTED = 20;

  const view = { scale: 1, left: 0, top: 0 }; /* CSS pixels per unit of the map, and place of its origin */
  let width = 0, height = 0, ratio = 1;
  let image = null, pixels = null;
  let colouring = colourings[0] ?? { name: "", values: [], codes: new Array(count).fill(-1), none: "all" };
  let shown = new Set();
  let matches = [];
  let isMatch = null; /* a byte per image while something is searched for */
  let selected = -1, hovered = -1;
  let planned = false;

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  /* ---------------------------------------------------------------------------------------------- drawing */

  const colourOf = (code) => {
    if (code < 0) return dark.matches ? "#6b737d" : "#a9b0b8";
    const own = special[colouring.name];
    return (own ?? palette)[code % (own ?? palette).length];
  };
  const shapeOf = (code) => (code < 0 ? shapes[0] : shapes[Math.floor(code / palette.length) % shapes.length]);

  const bits = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

  let theme;
  function readTheme() { /* the colours of the page, light or dark; that of the ground as red, green and blue */
    const probe = document.createElement("canvas").getContext("2d");
    probe.fillStyle = colour("--ground");
    theme = { ground: bits(probe.fillStyle), text: colour("--text") };
  }

  /* Draw the outline of a shape of some radius about a centre. */
  function trace(target, shape, cx, cy, r) {
    target.beginPath();
    if (shape === "circle") target.arc(cx, cy, r, 0, 2 * Math.PI);
    else if (shape === "square") target.rect(cx - r * 0.88, cy - r * 0.88, r * 1.76, r * 1.76);
    else {
      const corners = shape === "diamond" ? [[0, -1.2], [1.2, 0], [0, 1.2], [-1.2, 0]] : [[0, -1.15], [1.1, 0.85], [-1.1, 0.85]];
      for (const [dx, dy] of corners) target.lineTo(cx + dx * r, cy + dy * r);
      target.closePath();
    }
  }

  /* Return the pixels of a shape of some radius in device pixels: offsets from its centre, and opacities to 256. */
  const stamps = new Map();
  function stamp(shape, radius) {
    const key = `${shape} ${radius}`;
    if (stamps.has(key)) return stamps.get(key);
    const reach = Math.ceil(radius * 1.25) + 1, side = 2 * reach + 1;
    const probe = document.createElement("canvas");
    probe.width = probe.height = side;
    const pen = probe.getContext("2d");
    trace(pen, shape, reach + 0.5, reach + 0.5, radius);
    pen.fill();
    const opacity = pen.getImageData(0, 0, side, side).data;
    const found = { dx: [], dy: [], alpha: [], reach };
    for (let at = 0; at < side * side; at++) {
      const alpha = opacity[4 * at + 3];
      if (!alpha) continue;
      found.dx.push((at % side) - reach);
      found.dy.push(Math.floor(at / side) - reach);
      found.alpha.push(alpha === 255 ? 256 : alpha);
    }
    stamps.set(key, found);
    return found;
  }

  function radius() {
    const base = count > 10000 ? 2 : count > 2000 ? 2.6 : count > 300 ? 3.6 : 5;
    return Math.min(9, base * Math.min(2.6, Math.max(1, view.scale / fitted()) ** 0.3));
  }

  const isDrawn = (i) => shown.has(colouring.codes[i]);
  const place = (i) => [view.left + x[i] * view.scale, view.top + y[i] * view.scale];

  function plan() {
    if (planned) return;
    planned = true;
    requestAnimationFrame(() => {
      planned = false;
      draw();
    });
  }

  function draw() {
    const begun = performance.now();
    const [gr, gg, gb] = theme.ground;
    pixels.fill((255 << 24) | (gb << 16) | (gg << 8) | gr);
    const size = Math.round(radius() * ratio * 4) / 4;
    const styles = []; /* by code + 1 */
    for (const code of shown) styles[code + 1] = { own: bits(colourOf(code)), mark: stamp(shapeOf(code), size) };
    const inView = [];
    const codes = colouring.codes;
    /* Images without a value lie below the others, and those that do not match the search are faint. */
    const passes = [(i) => codes[i] < 0, (i) => codes[i] >= 0];
    const order = isMatch ? [(i) => !isMatch[i], (i) => isMatch[i]] : passes;
    for (const [number, takes] of order.entries()) {
      const strength = isMatch && number === 0 ? 0.18 : 1;
      for (let i = 0; i < count; i++) {
        const style = styles[codes[i] + 1];
        if (!style || !takes(i)) continue;
        const cx = Math.round((view.left + x[i] * view.scale) * ratio), cy = Math.round((view.top + y[i] * view.scale) * ratio);
        const reach = style.mark.reach;
        if (cx < -reach || cy < -reach || cx > canvas.width + reach || cy > canvas.height + reach) continue;
        if (cx >= 0 && cy >= 0 && cx < canvas.width && cy < canvas.height) inView.push(i);
        blend(style, cx, cy, strength);
      }
    }
    context.putImageData(image, 0, 0);
    if (tiles.length && inView.length <= MOST_PICTURES) drawPictures(inView);
    ring(hovered, 1.5);
    ring(selected, 2.5);
    canvas.dataset.points = inView.length;
    canvas.dataset.milliseconds = (performance.now() - begun).toFixed(2);
  }

  function blend({ own: [r, g, b], mark }, cx, cy, strength) {
    const { dx, dy, alpha } = mark;
    const whole = (255 << 24) | (b << 16) | (g << 8) | r;
    const inside = cx >= mark.reach && cy >= mark.reach && cx < canvas.width - mark.reach && cy < canvas.height - mark.reach;
    for (let k = 0; k < dx.length; k++) {
      const px = cx + dx[k], py = cy + dy[k];
      if (!inside && (px < 0 || py < 0 || px >= canvas.width || py >= canvas.height)) continue;
      const at = py * canvas.width + px;
      const a = strength === 1 ? alpha[k] : (alpha[k] * strength) | 0;
      if (a === 256) {
        pixels[at] = whole;
        continue;
      }
      const under = pixels[at];
      const ur = under & 255, ug = (under >> 8) & 255, ub = (under >> 16) & 255;
      pixels[at] = (255 << 24) | ((ub + (((b - ub) * a) >> 8)) << 16) | ((ug + (((g - ug) * a) >> 8)) << 8) | (ur + (((r - ur) * a) >> 8));
    }
  }

  function ring(i, thick) {
    if (i < 0 || !isDrawn(i)) return;
    const [cx, cy] = place(i);
    context.lineWidth = thick * ratio;
    context.strokeStyle = theme.text;
    context.beginPath();
    context.arc(cx * ratio, cy * ratio, (radius() + 4) * ratio, 0, 2 * Math.PI);
    context.stroke();
  }

  /* ------------------------------------------------------------------------------------------ thumbnails */

  const loaded = new Map();
  const address = (i) => `data:image/webp;base64,${tiles[i]}`;

  function picture(i) {
    if (loaded.has(i)) return loaded.get(i);
    const made = new Image();
    made.onload = plan;
    made.src = address(i);
    loaded.set(i, made);
    if (loaded.size > 4 * MOST_PICTURES) loaded.delete(loaded.keys().next().value);
    return made;
  }

  function drawPictures(inView) {
    const most = Math.min(64, Math.max(28, Math.sqrt((width * height) / Math.max(inView.length, 1)) * 0.5)) * ratio;
    for (const i of inView) {
      if (!tiles[i] || (isMatch && !isMatch[i])) continue;
      const made = picture(i);
      if (!made.complete || !made.naturalWidth) continue;
      const scale = most / Math.max(made.naturalWidth, made.naturalHeight);
      const [w, h] = [made.naturalWidth * scale, made.naturalHeight * scale];
      const [cx, cy] = place(i).map((each) => each * ratio);
      context.lineWidth = 2.5 * ratio;
      context.strokeStyle = colourOf(colouring.codes[i]);
      context.drawImage(made, cx - w / 2, cy - h / 2, w, h);
      context.strokeRect(cx - w / 2, cy - h / 2, w, h);
    }
  }

  /* ------------------------------------------------------------------------------------------------ view */

  const fitted = () => Math.max(1, Math.min(width - 48, height - 48) || 1);

  function fit() {
    view.scale = fitted();
    const [low, high] = extent;
    const wide = high[0] - low[0], tall = high[1] - low[1];
    view.scale = Math.min((width - 48) / Math.max(wide, 1e-6), (height - 64) / Math.max(tall, 1e-6), 4 * fitted());
    view.scale = Math.max(view.scale, 1);
    view.left = width / 2 - ((low[0] + high[0]) / 2) * view.scale;
    view.top = height / 2 - ((low[1] + high[1]) / 2) * view.scale;
    plan();
  }

  const reduced = (values, pick) => values.reduce((a, b) => pick(a, b), values[0]);
  const extent = [
    [reduced(x, Math.min), reduced(y, Math.min)],
    [reduced(x, Math.max), reduced(y, Math.max)],
  ];

  function zoomAt(cx, cy, factor) {
    const next = Math.min(fitted() * 5000, Math.max(fitted() * 0.4, view.scale * factor));
    view.left = cx - ((cx - view.left) / view.scale) * next;
    view.top = cy - ((cy - view.top) / view.scale) * next;
    view.scale = next;
    plan();
  }

  function pan(dx, dy) {
    view.left += dx;
    view.top += dy;
    plan();
  }

  function centre(i) {
    if (view.scale < fitted() * 3) view.scale = fitted() * 3;
    view.left = width / 2 - x[i] * view.scale;
    view.top = height / 2 - y[i] * view.scale;
    plan();
  }

  function resize() {
    const before = [width, height];
    width = stage.clientWidth;
    height = stage.clientHeight;
    ratio = Math.min(devicePixelRatio || 1, 2);
    canvas.width = Math.max(1, Math.round(width * ratio));
    canvas.height = Math.max(1, Math.round(height * ratio));
    image = context.createImageData(canvas.width, canvas.height);
    pixels = new Uint32Array(image.data.buffer);
    if (!before[0]) fit();
    else pan((width - before[0]) / 2, (height - before[1]) / 2);
  }

  /* Return the drawn image nearest to a place within a distance, or -1. */
  function nearest(cx, cy, within) {
    let best = -1, least = within * within;
    for (let i = 0; i < count; i++) {
      const dx = view.left + x[i] * view.scale - cx, dy = view.top + y[i] * view.scale - cy;
      const distance = dx * dx + dy * dy;
      if (distance < least && isDrawn(i)) [best, least] = [i, distance];
    }
    return best;
  }

  /* --------------------------------------------------------------------------------------- image details */

  const own = (text) => `\u2068${text}\u2069`; /* keeps the direction of a name to itself */

  function lines(i) {
    const rows = [[names[i], ""]];
    for (const each of colourings) {
      if (each.name === "prediction") continue;
      const code = each.codes[i];
      rows.push([`${each.name}: ${code < 0 ? each.none : own(each.values[code])}`, "soft"]);
    }
    if (predictions) {
      const code = predictions.codes[i];
      rows.push([code < 0 ? "not predicted" : `predicted: ${own(predictions.values[code])}, ${Math.round(predictions.shares[i] * 100)} %`, "soft"]);
    }
    return rows;
  }

  function fill(target, i) {
    target.replaceChildren();
    if (tiles.length) {
      if (tiles[i]) {
        const made = document.createElement("img");
        made.src = address(i);
        made.alt = "";
        target.append(made);
      } else {
        const gone = document.createElement("span");
        gone.className = "gone";
        gone.textContent = "no thumbnail";
        target.append(gone);
      }
    }
    for (const [text, kind] of lines(i)) {
      const line = document.createElement("div");
      line.textContent = text;
      line.className = kind;
      target.append(line);
    }
  }

  function hover(i, cx, cy) {
    canvas.classList.toggle("near", i >= 0);
    if (i < 0) {
      card.hidden = true;
      if (hovered >= 0) plan();
      hovered = -1;
      return;
    }
    if (i !== hovered) {
      fill(card, i);
      hovered = i;
      plan();
    }
    card.hidden = false;
    const { width: w, height: h } = card.getBoundingClientRect();
    card.style.left = `${Math.max(4, cx + 16 + w > width ? cx - 16 - w : cx + 16)}px`;
    card.style.top = `${Math.max(4, Math.min(cy + 16, height - h - 4))}px`;
  }

  function select(i) {
    selected = i;
    detail.hidden = i < 0;
    if (i >= 0) {
      fill(detail, i);
      const close = document.createElement("button");
      close.type = "button";
      close.textContent = "Close";
      close.addEventListener("click", () => select(-1));
      detail.append(close);
    }
    plan();
  }

  /* ---------------------------------------------------------------------------------- search and legend */

  function find() {
    const text = search.value.trim().toLowerCase();
    isMatch = text ? new Uint8Array(count) : null;
    matches = [];
    if (text) {
      for (let i = 0; i < count; i++) {
        if (isDrawn(i) && names[i].toLowerCase().includes(text)) {
          isMatch[i] = 1;
          matches.push(i);
        }
      }
    }
    byId("count").textContent = text ? `${matches.length.toLocaleString("en")} ${matches.length === 1 ? "image" : "images"} found` : "";
    found.replaceChildren(...matches.slice(0, LISTED).map((i) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = names[i];
      button.addEventListener("click", () => { select(i); centre(i); });
      item.append(button);
      return item;
    }));
    plan();
  }

  function swatch(code) {
    const made = document.createElement("canvas");
    made.width = made.height = 28;
    made.style.width = made.style.height = "14px";
    const pen = made.getContext("2d");
    pen.fillStyle = colourOf(code);
    trace(pen, shapeOf(code), 14, 14, 10);
    pen.fill();
    return made;
  }

  function listLegend() {
    const totals = new Map();
    for (const code of colouring.codes) totals.set(code, (totals.get(code) ?? 0) + 1);
    const codes = [...totals.keys()].sort((a, b) => (a < 0) - (b < 0) || a - b);
    legend.replaceChildren(...codes.map((code) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.code = code;
      button.setAttribute("aria-pressed", shown.has(code));
      const name = document.createElement("bdi");
      name.textContent = code < 0 ? colouring.none : colouring.values[code];
      const number = document.createElement("span");
      number.className = "number";
      number.textContent = totals.get(code).toLocaleString("en");
      button.append(swatch(code), name, number);
      button.addEventListener("click", () => {
        if (!shown.delete(code)) shown.add(code);
        button.setAttribute("aria-pressed", shown.has(code));
        find();
      });
      item.append(button);
      return item;
    }));
  }

  function show(all) {
    shown = new Set(all ? colouring.codes : []);
    listLegend();
    find();
  }

  function recolour() {
    colouring = colourings[Number(byId("colour").value)] ?? colouring;
    show(true);
  }

  /* --------------------------------------------------------------------------------------------- events */

  const pointers = new Map();
  let travelled = 0;

  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at(event));
    if (pointers.size === 1) travelled = 0;
    canvas.classList.add("moving");
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = at(event);
    if (!pointers.has(event.pointerId)) {
      hover(nearest(...now, 14), ...now);
      return;
    }
    const before = pointers.get(event.pointerId);
    pointers.set(event.pointerId, now);
    const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
    travelled += Math.hypot(dx, dy);
    if (travelled > 4) hover(-1);
    if (pointers.size === 1) {
      pan(dx, dy);
    } else if (pointers.size === 2) {
      const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, where]) => where);
      const span = (where) => Math.max(8, Math.hypot(where[0] - other[0], where[1] - other[1]));
      zoomAt((now[0] + other[0]) / 2, (now[1] + other[1]) / 2, span(now) / span(before));
      pan(dx / 2, dy / 2);
      travelled = 99;
    }
  });
  const lift = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    if (!pointers.size) canvas.classList.remove("moving");
    if (event.type === "pointerup" && !pointers.size && travelled <= 4) {
      const i = nearest(...at(event), event.pointerType === "mouse" ? 14 : 24);
      select(i);
      if (event.pointerType !== "mouse") hover(i, ...at(event));
    }
  };
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && !pointers.size && hover(-1));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const step = event.deltaMode === 1 ? event.deltaY * 16 : event.deltaMode === 2 ? event.deltaY * 400 : event.deltaY;
    hover(-1);
    zoomAt(...at(event), Math.exp(-Math.max(-600, Math.min(600, step)) * (event.ctrlKey ? 0.01 : 0.0016)));
  }, { passive: false });
  canvas.addEventListener("dblclick", (event) => zoomAt(...at(event), 2));
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const moves = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    const zooms = { "+": 1.3, "=": 1.3, "-": 1 / 1.3 };
    if (moves[event.key]) pan(...moves[event.key]);
    else if (zooms[event.key]) zoomAt(width / 2, height / 2, zooms[event.key]);
    else if (event.key === "0" || event.key === "Home") fit();
    else if (event.key === "Enter") select(nearest(width / 2, height / 2, Infinity));
    else if (event.key === "Escape") { select(-1); hover(-1); } else return;
    event.preventDefault();
  });
  for (const button of document.querySelectorAll("[data-zoom]")) {
    const factor = Number(button.dataset.zoom);
    button.addEventListener("click", () => (factor ? zoomAt(width / 2, height / 2, factor) : fit()));
  }
  search.addEventListener("input", find);
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !matches.length) return;
    const next = matches[(matches.indexOf(selected) + 1) % matches.length];
    select(next);
    centre(next);
  });
  byId("colour").addEventListener("change", recolour);
  byId("all").addEventListener("click", () => show(true));
  byId("none").addEventListener("click", () => show(false));
  dark.addEventListener("change", () => { readTheme(); listLegend(); plan(); });
  new ResizeObserver(resize).observe(stage);
  readTheme();
  recolour();
  resize();
})();
