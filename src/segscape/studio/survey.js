// The page of the preference study. The server decides order and sides; this shows pairs and sends votes.

const LONGEST = 86400; // seconds that a vote may have taken
const AHEAD = 3; // pairs that are loaded before they are needed
const SHOWN = 140; // milliseconds for which a choice is marked
const NAME = "segscape.rater";

const find = (id) => document.getElementById(id);
const sides = { left: find("left"), right: find("right") };

let rater = "";
let pairs = new Map(); // item -> pair
let choices = new Map(); // item -> "left" or "right", in the order of the votes
let waiting = []; // items without a vote, the next one first
let place = 0; // which vote is looked at; choices.size for the next new one
let current = null; // the pair on the screen
let shownAt = 0;
let busy = true; // while a pair loads or a vote is sent
const loading = new Map(); // address -> promise of a decoded picture

async function ask(address, options) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch {
    throw new Error("The server of the study does not answer. Is it still running?");
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.error ?? `The server answered ${answer.status}.`);
  return body;
}

function complain(error) {
  find("trouble").textContent = error ? error.message : "";
  find("trouble").hidden = !error;
}

function open(id) {
  for (const main of document.querySelectorAll("main")) main.hidden = main.id !== id;
}

function remember(name) {
  try {
    if (name) localStorage.setItem(NAME, name);
    else localStorage.removeItem(NAME);
  } catch {} // no storage: the name is asked for again
}

function remembered() {
  try {
    return localStorage.getItem(NAME) ?? "";
  } catch {
    return "";
  }
}

// Pictures -----------------------------------------------------------------------------------------------------------

function load(address) {
  if (!loading.has(address)) {
    const picture = new Image();
    picture.src = address;
    const ready = picture.decode().then(() => picture);
    ready.catch(() => loading.delete(address));
    loading.set(address, ready);
  }
  return loading.get(address);
}

function preload() {
  const near = [...choices.keys()].slice(-2).concat(waiting.slice(0, AHEAD)).map((item) => pairs.get(item));
  const kinds = find("show-layout").checked ? ["left", "right", "layout"] : ["left", "right"];
  const wanted = new Set(near.flatMap((pair) => kinds.map((kind) => pair[kind])));
  for (const address of loading.keys()) if (!wanted.has(address)) loading.delete(address);
  for (const address of wanted) load(address).catch(() => {}); // reported when the pair is shown
}

function put(holder, picture, alt) {
  picture.alt = alt;
  holder.querySelector("img")?.remove();
  holder.append(picture);
}

async function showLayout() {
  const wanted = find("show-layout").checked;
  const pair = current;
  find("study").classList.toggle("with-layout", wanted);
  find("layout").hidden = !wanted;
  if (!wanted || !pair) return;
  const picture = await load(pair.layout);
  if (pair === current) put(find("layout"), picture, "Layout that both pictures were made from");
}

// Going through the pairs --------------------------------------------------------------------------------------------

async function show() {
  const answered = [...choices.keys()];
  const revisiting = place < answered.length;
  if (!revisiting && waiting.length === 0) return finish();
  open("study");
  busy = true;
  const item = revisiting ? answered[place] : waiting[0];
  const pair = pairs.get(item);
  preload();
  try {
    const [left, right] = await Promise.all([load(pair.left), load(pair.right)]);
    current = pair;
    find("pair").style.setProperty("--ratio", pair.width / pair.height);
    find("pair").style.setProperty("--width", pair.width);
    put(sides.left, left, "First picture");
    put(sides.right, right, "Second picture");
    for (const [side, button] of Object.entries(sides)) button.classList.toggle("chosen", choices.get(item) === side);
    await showLayout();
  } catch {
    return complain(new Error("A picture could not be loaded. Is the server still running? Reload the page to go on."));
  }
  find("progress").textContent = `${place + 1} of ${pairs.size}`;
  find("bar").style.width = `${(100 * choices.size) / pairs.size}%`;
  find("back").disabled = place === 0;
  find("skip").textContent = revisiting ? "Keep" : "Skip";
  find("skip").disabled = !revisiting && waiting.length < 2;
  shownAt = performance.now();
  busy = false;
}

async function vote(side) {
  if (busy || !current) return;
  busy = true;
  const item = current.item;
  const seconds = Math.min((performance.now() - shownAt) / 1000, LONGEST);
  for (const [name, button] of Object.entries(sides)) button.classList.toggle("chosen", name === side);
  const pause = new Promise((done) => setTimeout(done, SHOWN));
  try {
    await ask("/api/votes", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ rater, item, choice: side, seconds }),
    });
  } catch (error) {
    sides[side].classList.remove("chosen");
    busy = false;
    return complain(new Error(`Your vote was not saved. ${error.message}`));
  }
  complain(null);
  await pause;
  choices.set(item, side); // a changed vote keeps its place
  waiting = waiting.filter((other) => other !== item);
  place += 1;
  await show();
}

async function back() {
  if ((busy && !find("study").hidden) || place === 0) return;
  place -= 1;
  await show();
}

async function skip() {
  if (busy) return;
  if (place < choices.size) place += 1;
  else waiting.push(waiting.shift());
  await show();
}

function finish() {
  busy = true;
  find("summary").textContent =
    pairs.size === 1 ? `Your vote is saved, ${rater}.` : `All ${pairs.size} votes are saved, ${rater}.`;
  open("thanks");
  find("thanks").querySelector("h1").focus();
}

// Who votes ----------------------------------------------------------------------------------------------------------

async function enter(name) {
  const session = await ask(`/api/pairs?rater=${encodeURIComponent(name)}`);
  rater = session.rater;
  remember(rater);
  pairs = new Map(session.pairs.map((pair) => [pair.item, pair]));
  choices = new Map(session.answered.map((answer) => [answer.item, answer.choice]));
  waiting = [...pairs.keys()].filter((item) => !choices.has(item));
  place = choices.size;
  find("who").textContent = rater;
  complain(null);
  await show();
}

function leave() {
  remember("");
  current = null;
  busy = true;
  loading.clear();
  complain(null);
  find("name").value = "";
  open("welcome");
  find("name").focus();
}

find("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  enter(find("name").value).catch(complain);
});
for (const [side, button] of Object.entries(sides)) button.addEventListener("click", () => vote(side));
for (const button of document.querySelectorAll(".change")) button.addEventListener("click", leave);
find("back").addEventListener("click", back);
find("revise").addEventListener("click", back);
find("skip").addEventListener("click", skip);
find("show-layout").addEventListener("change", () => showLayout().catch(complain));

const keys = { ArrowLeft: () => vote("left"), ArrowRight: () => vote("right"), Backspace: back };
document.addEventListener("keydown", (event) => {
  const act = keys[event.key];
  if (!act || find("study").hidden || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act();
});

const known = remembered();
if (known) {
  enter(known).catch((error) => {
    leave();
    complain(error);
  });
} else {
  leave();
}
