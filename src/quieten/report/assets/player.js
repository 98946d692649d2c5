// Players: all versions of an item start together, and only their gains change when one is chosen,
// so the place in the sound stays to the sample. One item sounds at a time.

const FADE_S = 0.006; // long enough to make no click
const START_S = 0.03;
const ENCODER_DELAY = 1105; // samples of silence that a decoder leaves that knows no LAME header
let context = null;
let master = null;
let meter = null;
let current = null;
const stillness = matchMedia("(prefers-reduced-motion: reduce)");

function openAudio() {
  if (context) return;
  context = new AudioContext({ latencyHint: "interactive" });
  master = context.createGain();
  meter = context.createAnalyser();
  meter.fftSize = 2048;
  master.connect(meter).connect(context.destination);
  setVolume();
}

function setVolume() {
  const slider = byId("volume");
  slider.nextElementSibling.textContent = `${figure(Number(slider.value), 0)}\u00a0dB`;
  if (master) master.gain.setTargetAtTime(10 ** (slider.value / 20), context.currentTime, 0.01);
}

/** Returns the bytes behind a data address without a request. */
function bytesOf(address) {
  const text = atob(address.slice(address.indexOf(",") + 1));
  return Uint8Array.from(text, (character) => character.charCodeAt(0)).buffer;
}

class Player {
  constructor(card) {
    this.card = card;
    this.duration = Number(card.dataset.duration);
    this.rows = all(".version", card);
    this.version = 0;
    this.place = 0; // seconds, while nothing plays
    this.loop = false;
    this.region = null; // [from, to] in seconds
    this.buffers = null;
    this.voices = null; // [{source, gain}] while it plays
    this.listen();
    this.show();
  }

  get playing() {
    return this.voices !== null;
  }

  get bounds() {
    return this.region ?? [0, this.duration];
  }

  /** Seconds into the sound, as it is heard now. */
  get position() {
    if (!this.playing) return this.place;
    let at = this.begun.place + Math.max(0, context.currentTime - this.begun.time);
    const [from, to] = this.bounds;
    if ((this.loop || this.region) && at > to) at = from + ((at - from) % (to - from));
    return Math.min(at, this.duration);
  }

  async load() {
    this.loading ??= Promise.all(
      this.rows.map((row) => context.decodeAudioData(bytesOf(row.querySelector("audio").src))));
    this.buffers = await this.loading;
  }

  /** Seconds that the decoder left before the sound: none, or the delay of the encoder. */
  get lead() {
    const rate = Number(this.card.dataset.playedRate);
    return this.buffers[0].duration > this.duration + ENCODER_DELAY / rate ? ENCODER_DELAY / rate : 0;
  }

  async play() {
    openAudio();
    const wanted = (this.wanted = {});
    if (current && current !== this) current.pause();
    makeCurrent(this);
    await Promise.all([context.resume(), this.load()]);
    if (this.wanted !== wanted || this.playing) return;
    const [from, to] = this.bounds;
    if (this.place >= to - 0.01 || this.place < from) this.place = from;
    this.start(this.place);
  }

  start(place) {
    const time = context.currentTime + START_S;
    this.begun = { time, place };
    this.voices = this.buffers.map((buffer, index) => {
      const source = new AudioBufferSourceNode(context, { buffer });
      const gain = new GainNode(context, { gain: index === this.version ? 1 : 0 });
      const [from, to] = this.bounds;
      source.loop = this.loop || this.region !== null;
      source.loopStart = this.lead + from;
      source.loopEnd = this.lead + to;
      source.connect(gain).connect(master);
      source.start(time, this.lead + place);
      return { source, gain };
    });
    this.voices[0].source.onended = () => this.end();
    this.show();
    tick();
  }

  end() {
    this.stop(this.duration);
  }

  stop(place) {
    for (const { source, gain } of this.voices ?? []) {
      source.onended = null;
      gain.gain.setTargetAtTime(0, context.currentTime, FADE_S / 3);
      source.stop(context.currentTime + 2 * FADE_S);
    }
    this.voices = null;
    this.place = place;
    this.show();
  }

  pause() {
    this.wanted = null;
    if (this.playing) this.stop(this.position);
  }

  toggle() {
    return this.playing ? this.pause() : this.play();
  }

  seek(place) {
    const target = Math.min(Math.max(place, 0), this.duration);
    makeCurrent(this);
    if (this.region && (target < this.region[0] || target > this.region[1])) this.mark(null);
    const sounding = this.playing;
    this.stop(target);
    if (sounding) this.start(target < this.duration - 0.01 ? target : 0);
  }

  /** Starts anew where it is: loops are set when a source starts. */
  renew() {
    if (!this.playing) return this.show();
    const place = this.position;
    const [from, to] = this.bounds;
    this.stop(place);
    this.start(place >= from && place < to ? place : from);
  }

  setLoop(loop) {
    this.loop = loop;
    this.renew();
  }

  mark(region) {
    this.region = region;
    if (region && !this.playing) this.place = region[0];
    this.renew();
  }

  choose(version) {
    if (!this.rows[version]) return;
    this.version = version;
    this.voices?.forEach(({ gain }, index) =>
      gain.gain.setTargetAtTime(index === version ? 1 : 0, context.currentTime, FADE_S / 3));
    this.show();
  }

  show() {
    const share = (seconds) => String(seconds / this.duration);
    const at = this.position;
    const { card } = this;
    card.classList.toggle("playing", this.playing);
    card.classList.toggle("marked", this.region !== null);
    card.style.setProperty("--at", share(at));
    card.style.setProperty("--from", share(this.region?.[0] ?? 0));
    card.style.setProperty("--to", share(this.region?.[1] ?? 0));
    const seek = card.querySelector(".seek");
    seek.value = at;
    seek.setAttribute("aria-valuetext", `${at.toFixed(1)} of ${this.duration.toFixed(1)} seconds`);
    card.querySelector(".play").setAttribute("aria-label", this.playing ? "Pause" : "Play");
    card.querySelector(".loop").setAttribute("aria-pressed", String(this.loop || this.region !== null));
    card.querySelector(".time").textContent = `${at.toFixed(1)} / ${this.duration.toFixed(1)} s`;
    this.rows.forEach((row, index) =>
      row.querySelector(".pick").setAttribute("aria-pressed", String(index === this.version)));
  }

  listen() {
    const { card } = this;
    card.querySelector(".play").addEventListener("click", () => report(this.toggle()));
    card.querySelector(".loop").addEventListener("click", () => this.toggleLoop());
    card.querySelector(".seek").addEventListener("input", (event) => this.seek(Number(event.target.value)));
    this.rows.forEach((row, index) => {
      row.querySelector(".pick").addEventListener("click", () => {
        makeCurrent(this);
        this.choose(index);
      });
      this.listenTo(row.querySelector(".plot"), index);
    });
  }

  toggleLoop() {
    if (this.region) return this.mark(null);
    return this.setLoop(!this.loop);
  }

  /** A click on a picture goes there and plays that version; a drag marks a stretch to repeat. */
  listenTo(plot, index) {
    let start = null;
    const secondsAt = (event) => {
      const box = plot.getBoundingClientRect();
      return this.duration * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    };
    const far = (event) => Math.abs(event.clientX - start.x) > 6;
    plot.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      start = { x: event.clientX, place: secondsAt(event), region: this.region };
      plot.setPointerCapture(event.pointerId);
    });
    plot.addEventListener("pointermove", (event) => {
      readOut(this.card, plot, event, secondsAt(event));
      if (!start || !far(event)) return;
      this.region = [start.place, secondsAt(event)].sort((a, b) => a - b);
      this.show();
    });
    plot.addEventListener("pointerup", (event) => {
      if (!start) return;
      const [dragged, place] = [far(event), secondsAt(event)];
      const region = [start.place, place].sort((a, b) => a - b);
      start = null;
      makeCurrent(this);
      this.choose(index);
      if (dragged && region[1] - region[0] > 0.05) this.mark(region);
      else this.seek(place);
    });
    plot.addEventListener("pointercancel", () => {
      if (start) this.region = start.region; // the finger scrolled the page instead
      start = null;
      this.show();
    });
    plot.addEventListener("pointerleave", () => { this.card.querySelector(".readout").textContent = ""; });
  }
}

function makeCurrent(player) {
  if (current && current !== player) {
    current.pause();
    current.card.classList.remove("current");
    current.buffers = current.loading = null; // decoded sounds are large
  }
  current = player;
  player.card.classList.add("current");
}

/** Tells time, frequency and level below the pointer. */
function readOut(card, plot, event, seconds) {
  const box = plot.getBoundingClientRect();
  const height = 1 - Math.min(1, Math.max(0, (event.clientY - box.top) / box.height));
  const parts = [`${seconds.toFixed(2)} s`];
  if (root.dataset.view !== "wave") {
    parts.push(`${Math.round((height * card.dataset.topHz) / 10) * 10} Hz`);
    const grey = greyAt(plot.querySelector(".picture"), seconds / Number(card.dataset.duration), 1 - height);
    if (grey !== null) parts.push(grey ? `${figure((grey / 255 - 1) * data.rangeDb, 0)} dB` : `below ${figure(-data.rangeDb, 0)} dB`);
  }
  card.querySelector(".readout").textContent = parts.join(", ");
}

const readers = new WeakMap();

/** Returns the grey level of a picture at a place, null where the browser guards its pixels. */
function greyAt(picture, x, y) {
  const [width, height] = [picture.naturalWidth, picture.naturalHeight];
  if (!width) return null;
  if (!readers.has(picture)) {
    const canvas = Object.assign(document.createElement("canvas"), { width, height: height + 1 });
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.fillStyle = "#7f7f7f";
    pen.fillRect(0, height, width, 1);
    pen.drawImage(picture, 0, 0);
    const honest = [0, width - 1].every((column) => pen.getImageData(column, height, 1, 1).data[0] === 127);
    readers.set(picture, honest ? pen : null);
  }
  const place = (share, size) => Math.min(size - 1, Math.floor(share * size));
  return readers.get(picture)?.getImageData(place(x, width), place(y, height), 1, 1).data[0] ?? null;
}

let ticking = false;
let shown = 0;

function tick() {
  if (ticking) return;
  ticking = true;
  const step = (now) => {
    ticking = Boolean(current?.playing);
    if (!ticking) return;
    if (!stillness.matches || now - shown > 250) {
      shown = now;
      current.show();
    }
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

const players = all(".card").map((card) => new Player(card));
for (const mark of all("[data-place]")) {
  const share = Number(mark.dataset.place);
  mark.style[mark.parentNode.className === "axis" ? "bottom" : "left"] = `${100 * share}%`;
  if (share > 0.97) mark.classList.add("top");
}
byId("volume").addEventListener("input", setVolume);

const KEYS = {
  " ": (player) => player.toggle(),
  ArrowLeft: (player, event) => player.seek(player.position - (event.shiftKey ? 0.05 : 0.5)),
  ArrowRight: (player, event) => player.seek(player.position + (event.shiftKey ? 0.05 : 0.5)),
  ArrowUp: (player) => goTo(players.indexOf(player) - 1, player),
  ArrowDown: (player) => goTo(players.indexOf(player) + 1, player),
  Home: (player) => player.seek(player.bounds[0]),
  Escape: (player) => player.mark(null),
  l: (player) => player.toggleLoop(),
  L: (player) => player.toggleLoop(),
};

function goTo(index, before) {
  const player = players[index];
  if (!player) return null;
  const sounding = before.playing;
  makeCurrent(player);
  player.choose(Math.min(before.version, player.rows.length - 1));
  player.card.focus({ preventScroll: true });
  player.card.scrollIntoView({ block: "start", behavior: stillness.matches ? "instant" : "smooth" });
  return sounding ? player.play() : null;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const card = event.target.closest(".card");
  const player = players.find((one) => one.card === card) ?? (event.target === document.body ? current : null);
  const control = event.target.closest("button");
  const idle = control?.matches(".pick[aria-pressed='true']"); // its own space would do nothing
  if (!player || (event.key === " " && control && !idle)) return;
  const action = KEYS[event.key] ?? (/^[1-9]$/.test(event.key) ? () => player.choose(event.key - 1) : null);
  if (!action) return;
  event.preventDefault();
  if (event.key !== "Escape") makeCurrent(player);
  report(action(player, event));
});
/** Says so in the page where a sound cannot be played. */
function report(work) {
  Promise.resolve(work).catch((error) => {
    const trouble = document.querySelector(".trouble");
    trouble.textContent = `This browser cannot play the sounds (${error.message}). Another one may.`;
    trouble.hidden = false;
  });
}

window.quieten = {
  /** What plays, for tests: place in seconds, gains of the versions, level of the output. */
  state() {
    if (!current) return null;
    const samples = new Float32Array(2048);
    meter?.getFloatTimeDomainData(samples);
    return {
      item: current.card.dataset.name,
      version: current.version,
      position: current.position,
      playing: current.playing,
      loop: current.loop,
      region: current.region,
      gains: current.voices?.map(({ gain }) => gain.gain.value) ?? null,
      level: Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length),
    };
  },
};
