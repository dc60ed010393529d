"use strict";
// Keeps the figures of the page up to date, once a second while somebody looks.
const place = (id) => document.getElementById(id);
const SHOWN = 60;
const rates = new Array(SHOWN).fill(0);
let before = null;

function count(number) {
  return number.toLocaleString("en");
}
function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (number >= 1024 && unit < units.length - 1) { number /= 1024; unit += 1; }
  return (unit === 0 || number >= 100 ? Math.round(number) : number.toFixed(1)) + " " + units[unit];
}
function time(seconds) {
  const whole = Math.floor(seconds);
  const parts = [[Math.floor(whole / 86400), "d"], [Math.floor(whole / 3600) % 24, "h"], [Math.floor(whole / 60) % 60, "min"], [whole % 60, "s"]];
  while (parts.length > 1 && parts[0][0] === 0) parts.shift();
  return parts.slice(0, 2).map(([number, unit]) => number + " " + unit).join(" ");
}
function draw() {
  const top = Math.max(4, ...rates);
  const line = rates.map((rate, i) => (i * 120 / (SHOWN - 1)).toFixed(1) + " " + (31 - 29 * rate / top).toFixed(1)).join("L");
  place("line").setAttribute("d", "M" + line);
  place("area").setAttribute("d", "M0 32L" + line + "L120 32z");
}
function show(now) {
  place("requests").textContent = count(now.requests);
  place("uptime").textContent = time(now.uptime_seconds);
  place("connections").textContent = count(now.connections_open);
  place("received").textContent = bytes(now.nic_rx_bytes);
  place("sent").textContent = bytes(now.nic_tx_bytes);
  place("heap").textContent = bytes(now.heap_used_bytes) + " of " + bytes(now.memory_bytes);
  place("used").setAttribute("width", Math.max(0.5, 100 * now.heap_used_bytes / now.memory_bytes));
  const passed = before ? now.uptime_seconds - before.uptime_seconds : 0;
  if (passed > 0 && now.requests >= before.requests) {
    const rate = (now.requests - before.requests) / passed;
    place("rate").textContent = rate < 10 ? rate.toFixed(1) : count(Math.round(rate));
    rates.shift();
    rates.push(rate);
    draw();
  }
  before = now;
}
function say(kind, text) {
  const live = place("live");
  if (live.textContent !== text) live.textContent = text;
  live.className = "live " + kind;
}
async function look() {
  if (!document.hidden) {
    try {
      const answer = await fetch("/status.json", { cache: "no-store", signal: AbortSignal.timeout(5000) });
      if (!answer.ok) throw new Error(answer.status);
      show(await answer.json());
      say("on", "live");
    } catch {
      before = null;
      say("off", "no answer");
    }
  }
  setTimeout(look, 1000);
}
look();
