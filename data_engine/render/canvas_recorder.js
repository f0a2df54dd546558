// A canvas for ECharts in a JavaScript engine that has none. It paints nothing: it writes down what would be
// painted, as a list of operations that Python replays with skia (canvas_player.py).
//
//   ["m", a, b, c, d, e, f]              the matrix for what follows
//   ["s"]  ["r"]                         save, restore (clip and matrix)
//   ["c", path]                          clip
//   ["f", path, paint, effect]           fill
//   ["k", path, paint, line, effect]     stroke; line = [width, cap, join, miter limit, dashes, dash offset]
//   ["t", text, x, y, font, align, baseline, paint, line or null, effect]    text, filled or (line) stroked
//   ["i", image, sx, sy, sw, sh, dx, dy, dw, dh, alpha, effect]              a part of an image
//
// A path is flat: 0 x y (move) | 1 x y (line) | 2 x1 y1 x2 y2 x y (cubic) | 3 x1 y1 x y (quadratic) |
// 4 x y rx ry rotation start sweep (ellipse) | 5 (close) | 6 x y w h (rectangle).
// A paint is [style, alpha]; a style is a CSS colour, or {linear: [x0, y0, x1, y1], stops: [[at, colour]...]}, or
// {radial: [x0, y0, r0, x1, y1, r1], stops}, or {pattern: image, repeat, matrix}.
// An effect is null or [shadow blur, dx, dy, colour, composite operation].
// An image is {width, height, operations} or {width, height, source: "data:..."}.
// A method that is not here does not exist, so ECharts fails aloud instead of losing a part of the picture.
"use strict";
(function (global) {
  const STATE = ["fillStyle", "strokeStyle", "lineWidth", "lineCap", "lineJoin", "miterLimit", "lineDashOffset",
    "font", "textAlign", "textBaseline", "globalAlpha", "globalCompositeOperation", "shadowBlur",
    "shadowOffsetX", "shadowOffsetY", "shadowColor", "_dash"];
  const FULL_TURN = 2 * Math.PI;
  const advances = {};  // "family" or "family/bold" -> {character: advance at one pixel}
  const fonts = {};     // CSS font -> {size, table}

  function fontOf(css) {
    let font = fonts[css];
    if (font === undefined) {
      const match = /(\d+(?:\.\d+)?)px\s+["']?([^"',]+)/.exec(css);
      if (match === null) throw new Error("cannot read the font " + css);
      const family = match[2].trim() + (/\bbold\b|\b[6-9]00\b/.test(css) ? "/bold" : "");
      font = fonts[css] = {size: +match[1], family: family};
    }
    return font;
  }

  function measure(text, css) {
    const font = fontOf(css), table = advances[font.family];
    if (table === undefined) throw new Error("no measures for the font " + css);
    let width = 0;
    for (const character of String(text)) {
      const advance = table[character];
      if (advance === undefined) {
        if (character < " " || character === "\x7f") continue;  // ECharts measures control characters, too
        throw new Error("no measure for '" + character + "' in " + css);
      }
      width += advance;
    }
    return {width: width * font.size};
  }

  class Gradient {
    constructor(kind, numbers) { this[kind] = numbers; this.stops = []; }
    addColorStop(at, color) { this.stops.push([at, color]); }
  }

  class Pattern {
    constructor(image, repeat) { this.pattern = describe(image); this.repeat = repeat || "repeat"; }
    setTransform(matrix) { this.matrix = matrix.m; }
  }

  function multiply(m, a, b, c, d, e, f) {
    return [m[0] * a + m[2] * b, m[1] * a + m[3] * b, m[0] * c + m[2] * d, m[1] * c + m[3] * d,
      m[0] * e + m[2] * f + m[4], m[1] * e + m[3] * f + m[5]];
  }

  class Matrix {  // as much of DOMMatrix as patterns use
    constructor() { this.m = [1, 0, 0, 1, 0, 0]; }
    translateSelf(x, y) { this.m = multiply(this.m, 1, 0, 0, 1, x, y); return this; }
    scaleSelf(x, y) { this.m = multiply(this.m, x, 0, 0, y === undefined ? x : y, 0, 0); return this; }
    rotateSelf(x, y, z) {
      const angle = (z === undefined ? x : z) * Math.PI / 180, c = Math.cos(angle), s = Math.sin(angle);
      this.m = multiply(this.m, c, s, -s, c, 0, 0);
      return this;
    }
  }

  function describe(image) {
    return image instanceof RecordingCanvas
      ? {width: image.width, height: image.height, operations: image.getContext("2d").operations}
      : {width: image.width, height: image.height, source: image.src};
  }

  class RecordingContext {
    constructor(canvas) {
      this.canvas = canvas;
      this.operations = [];
      this._stack = [];
      this._matrix = this._written = [1, 0, 0, 1, 0, 0];
      this._path = [];
      this._dash = [];
      this.fillStyle = this.strokeStyle = "#000";
      this.lineWidth = 1; this.lineCap = "butt"; this.lineJoin = "miter"; this.miterLimit = 10;
      this.lineDashOffset = 0;
      this.font = "10px sans-serif"; this.textAlign = "start"; this.textBaseline = "alphabetic";
      this.globalAlpha = 1; this.globalCompositeOperation = "source-over";
      this.shadowBlur = this.shadowOffsetX = this.shadowOffsetY = 0; this.shadowColor = "transparent";
    }

    // ---- state
    save() {
      const state = {matrix: this._matrix, written: this._written};
      for (const key of STATE) state[key] = this[key];
      this._stack.push(state);
      this.operations.push(["s"]);
    }
    restore() {
      const state = this._stack.pop();
      if (state === undefined) return;
      for (const key of STATE) this[key] = state[key];
      this._matrix = state.matrix;
      this._written = state.written;
      this.operations.push(["r"]);
    }
    setTransform(a, b, c, d, e, f) { this._matrix = [a, b, c, d, e, f]; }
    resetTransform() { this._matrix = [1, 0, 0, 1, 0, 0]; }
    transform(a, b, c, d, e, f) { this._matrix = multiply(this._matrix, a, b, c, d, e, f); }
    translate(x, y) { this.transform(1, 0, 0, 1, x, y); }
    scale(x, y) { this.transform(x, 0, 0, y, 0, 0); }
    rotate(angle) {
      const c = Math.cos(angle), s = Math.sin(angle);
      this.transform(c, s, -s, c, 0, 0);
    }
    setLineDash(dash) { this._dash = Array.from(dash || []); }
    getLineDash() { return this._dash.slice(); }
    createLinearGradient(...numbers) { return new Gradient("linear", numbers); }
    createRadialGradient(...numbers) { return new Gradient("radial", numbers); }
    createPattern(image, repeat) { return new Pattern(image, repeat); }
    measureText(text) { return measure(text, this.font); }

    // ---- paths
    beginPath() { this._path = []; }
    closePath() { this._path.push(5); }
    moveTo(x, y) { this._path.push(0, x, y); this._at(x, y); }
    lineTo(x, y) { this._path.push(this._path.length ? 1 : 0, x, y); this._at(x, y); }
    bezierCurveTo(a, b, c, d, x, y) { this._start(a, b); this._path.push(2, a, b, c, d, x, y); this._at(x, y); }
    quadraticCurveTo(a, b, x, y) { this._start(a, b); this._path.push(3, a, b, x, y); this._at(x, y); }
    rect(x, y, w, h) { this._path.push(6, x, y, w, h); this._at(x, y); }
    arc(x, y, r, start, end, anticlockwise) { this.ellipse(x, y, r, r, 0, start, end, anticlockwise); }
    ellipse(x, y, rx, ry, rotation, start, end, anticlockwise) {
      let sweep = end - start;
      if (anticlockwise) {
        sweep = sweep <= -FULL_TURN ? -FULL_TURN : sweep > 0 ? sweep % FULL_TURN - FULL_TURN : sweep;
      } else {
        sweep = sweep >= FULL_TURN ? FULL_TURN : sweep < 0 ? sweep % FULL_TURN + FULL_TURN : sweep;
      }
      this._path.push(4, x, y, rx, ry, rotation, start, sweep);
      const c = Math.cos(start + sweep) * rx, s = Math.sin(start + sweep) * ry;
      const turnX = Math.cos(rotation), turnY = Math.sin(rotation);
      this._at(x + c * turnX - s * turnY, y + c * turnY + s * turnX);
    }
    arcTo(x1, y1, x2, y2, radius) {
      if (!this._path.length) this.moveTo(x1, y1);
      const ax = this._x - x1, ay = this._y - y1, bx = x2 - x1, by = y2 - y1;
      const la = Math.hypot(ax, ay), lb = Math.hypot(bx, by), cross = ax * by - ay * bx;
      if (la === 0 || lb === 0 || radius === 0 || Math.abs(cross) < 1e-9 * la * lb) return this.lineTo(x1, y1);
      const half = Math.acos(Math.max(-1, Math.min(1, (ax * bx + ay * by) / (la * lb)))) / 2;
      const along = radius / Math.tan(half), away = radius / Math.sin(half);
      const startX = x1 + ax / la * along, startY = y1 + ay / la * along;
      const endX = x1 + bx / lb * along, endY = y1 + by / lb * along;
      const midX = ax / la + bx / lb, midY = ay / la + by / lb, mid = Math.hypot(midX, midY);
      const x = x1 + midX / mid * away, y = y1 + midY / mid * away;
      this.lineTo(startX, startY);
      this.arc(x, y, radius, Math.atan2(startY - y, startX - x), Math.atan2(endY - y, endX - x), cross > 0);
    }
    _start(x, y) { if (!this._path.length) this.moveTo(x, y); }
    _at(x, y) { this._x = x; this._y = y; }

    // ---- paint
    clip() { this._place(); this.operations.push(["c", this._path]); }
    fill() { this._fillPath(this._path); }
    fillRect(x, y, w, h) { this._fillPath([6, x, y, w, h]); }
    stroke() { this._strokePath(this._path); }
    strokeRect(x, y, w, h) { this._strokePath([6, x, y, w, h]); }
    clearRect(x, y, w, h) {
      // ECharts clears all of a canvas before it paints it anew; it never clears a part.
      if (x > 0 || y > 0 || w < this.canvas.width || h < this.canvas.height) throw new Error("clearRect of a part");
      this.operations.length = 0;
      this._written = [1, 0, 0, 1, 0, 0];
      for (let depth = 0; depth < this._stack.length; depth++) this.operations.push(["s"]);
    }
    fillText(text, x, y) { this._text(text, x, y, this.fillStyle, null); }
    strokeText(text, x, y) { this._text(text, x, y, this.strokeStyle, this._line()); }
    drawImage(image, ...n) {
      this._place();
      const from = n.length === 8 ? n.slice(0, 4) : [0, 0, image.width, image.height];
      const to = n.length === 8 ? n.slice(4) : n.length === 4 ? n : [n[0], n[1], image.width, image.height];
      this.operations.push(["i", describe(image), ...from, ...to, this.globalAlpha, this._effect()]);
    }
    _fillPath(path) {
      this._place();
      this.operations.push(["f", path, [this.fillStyle, this.globalAlpha], this._effect()]);
    }
    _strokePath(path) {
      this._place();
      const paint = [this.strokeStyle, this.globalAlpha];
      this.operations.push(["k", path, paint, this._line(), this._effect()]);
    }
    _text(text, x, y, style, line) {
      this._place();
      this.operations.push(["t", String(text), x, y, this.font, this.textAlign, this.textBaseline,
        [style, this.globalAlpha], line, this._effect()]);
    }
    _line() {
      return [this.lineWidth, this.lineCap, this.lineJoin, this.miterLimit, this._dash,
        this.lineDashOffset || 0];  // ECharts sets undefined, which a canvas ignores
    }
    _effect() {
      const shadow = this.shadowColor && this.shadowColor !== "transparent" &&
        (this.shadowBlur || this.shadowOffsetX || this.shadowOffsetY);
      if (!shadow && this.globalCompositeOperation === "source-over") return null;
      return [shadow ? this.shadowBlur : 0, shadow ? this.shadowOffsetX : 0, shadow ? this.shadowOffsetY : 0,
        shadow ? this.shadowColor : "transparent", this.globalCompositeOperation];
    }
    _place() {
      const now = this._matrix, was = this._written;
      for (let i = 0; i < 6; i++) {
        if (now[i] !== was[i]) {
          this._written = now;
          this.operations.push(["m", ...now]);
          return;
        }
      }
    }
  }

  class RecordingCanvas {
    constructor(width, height) { this.width = width; this.height = height; this.style = {}; this._context = null; }
    getContext() { return this._context || (this._context = new RecordingContext(this)); }
    setAttribute() {}
    addEventListener() {}
    removeEventListener() {}
  }

  // Images come as data URLs of PNGs; their size is read from the header. They count as loaded when the
  // chart has been set up, as in a browser, only without waiting.
  let loading = [];
  function loadImage(source, onload) {
    const match = /^data:image\/png;base64,([A-Za-z0-9+/=]+)$/.exec(source);
    if (match === null) throw new Error("only PNG data URLs can be drawn");
    const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const bytes = [];
    for (let i = 0; i < 32; i += 4) {
      let bits = 0;
      for (let j = 0; j < 4; j++) bits = bits << 6 | Math.max(0, alphabet.indexOf(match[1][i + j]));
      bytes.push(bits >> 16 & 255, bits >> 8 & 255, bits & 255);
    }
    const number = (at) => (bytes[at] << 24 | bytes[at + 1] << 16 | bytes[at + 2] << 8 | bytes[at + 3]) >>> 0;
    const image = {src: source, width: number(16), height: number(20)};
    loading.push(() => onload.call(image));
    return image;
  }

  // The same chart draws the same picture, whenever it is drawn and whatever was drawn before.
  let state = 1;
  Math.random = function () {
    state = Math.imul(state ^ state >>> 15, 1 | state) + 0x6D2B79F5 | 0;
    return ((state ^ state >>> 14) >>> 0) / 4294967296;
  };
  const FixedDate = Date, START = 1700000000000;
  global.Date = class extends FixedDate {
    constructor(...parts) { if (parts.length) super(...parts); else super(START); }
    static now() { return START; }
  };
  global.DOMMatrix = Matrix;

  global.addAdvances = function (family, table) {
    advances[family] = Object.assign(advances[family] || {}, table);
    return true;
  };

  global.connectRecorder = function () {
    echarts.setPlatformAPI({createCanvas: () => new RecordingCanvas(32, 32), measureText: measure, loadImage: loadImage});
  };

  // ECharts writes the numbers of an axis with commas between thousands and has no setting for it. Where an axis says
  // so, its pattern becomes a function, which gets the bare number.
  global.withoutCommas = function (option) {
    for (const axis of [].concat(option.xAxis || [], option.yAxis || [])) {
      const label = axis.axisLabel;
      if (!label || label.commas !== false) continue;
      const pattern = label.formatter;
      label.formatter = (value) => pattern.replace("{value}", value);
    }
    return option;
  };

  global.recordChart = function (option, width, height) {
    state = 1;
    const canvas = new RecordingCanvas(width, height);
    const chart = echarts.init(canvas, null, {width: width, height: height, devicePixelRatio: 1});
    chart.setOption(withoutCommas(JSON.parse(option)));
    chart.getZr().flush();
    while (loading.length) {
      const loaded = loading;
      loading = [];
      for (const done of loaded) done();
      chart.getZr().refreshImmediately();
    }
    const operations = canvas.getContext("2d").operations.slice();  // disposing clears the canvas
    chart.dispose();
    return operations;
  };
})(globalThis);
