// The inbox in a browser: the keyboard, what changes by itself, and answers as they come. Reading needs none of it.
"use strict";

const root = document.body.dataset.root;
const main = document.getElementById("main");
const list = document.getElementById("list");
const toasts = document.getElementById("toasts");
const palette = document.getElementById("palette");

const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

const conversation = () => $(".conversation", main);
const openedId = () => conversation()?.dataset.session ?? "";
const isAnswering = () => conversation()?.classList.contains("is-answering") ?? false;

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

const copyOf = (id) => document.getElementById(id).content.cloneNode(true);

function parsed(html) {
  return new DOMParser().parseFromString(html, "text/html");
}

// A piece of a page, as htmx asks for it. Where nobody answers there is none; what is shown stays.
function piece(address) {
  return fetch(root + address, { headers: { "HX-Request": "true" } }).catch(() => Response.error());
}

// Does something soon, and once, however often it is asked for; again, where it was asked for meanwhile.
function soon(work, delay) {
  let state = "idle";
  async function go() {
    state = "working";
    try {
      await work();
    } finally {
      const again = state === "again";
      state = "idle";
      if (again) ask();
    }
  }
  function ask() {
    if (state === "working") state = "again";
    if (state !== "idle") return;
    state = "waiting";
    setTimeout(go, delay);
  }
  return ask;
}

// What this browser remembers: drafts, and up to where sessions were read. It may be full, or not allowed.

function remembered(key) {
  try { return localStorage.getItem(key) ?? ""; } catch { return ""; }
}

function remember(key, value) {
  try {
    if (value) localStorage.setItem(key, value);
    else localStorage.removeItem(key);
  } catch { /* the page works without */ }
}

// What the server says of what was done.

const UNDO_MS = 10_000;
const BAD_MS = 8_000;
const GOOD_MS = 4_000;
const UNREACHABLE = "The server cannot be reached.";

function toast(text, { undo = null, bad = false } = {}) {
  const shown = element("div", bad ? "toast bad" : "toast");
  shown.append(element("span", "", text));
  if (undo) {
    const button = element("button", "link", "Undo");
    button.title = "Undo (z)";
    button.addEventListener("click", () => { shown.remove(); send("undo", { deed: undo }); });
    shown.append(button);
  }
  toasts.replaceChildren(shown);
  setTimeout(() => shown.remove(), undo ? UNDO_MS : bad ? BAD_MS : GOOD_MS);
}

async function send(what, fields) {
  const answer = await fetch(`${root}/inbox/${what}`, {
    method: "POST", headers: { "HX-Request": "true" }, body: new URLSearchParams(fields),
  }).catch(() => null);
  if (!answer) return toast(UNREACHABLE, { bad: true });
  if (!answer.ok) return toast(troubleOf(answer.status, await answer.text()), { bad: true });
  const told = answer.headers.get("HX-Trigger");
  if (told) done(JSON.parse(told).done);
}

function troubleOf(status, body) {
  try { return JSON.parse(body).detail; } catch { return `The server answered ${status}.`; }
}

// What was asked for before the reader did something does not hold it; it is asked for anew.
let deeds = 0;

function done({ text, undo, session, gone, go }) {
  deeds += 1;
  toast(text, { undo });
  $("#more")?.removeAttribute("open");
  if (go) visit(go);
  if (gone) dropRow(session);
  if (gone && session === openedId()) closeConversation();
  else if (session && session === openedId()) refreshConversation();
  refreshRows();
}

document.body.addEventListener("done", (event) => {
  // What is put away may be further down than the rows that are read anew.
  if (event.target.dataset.form === "archive" && !viewQuery().includes("show=all")) dropRow(openedId());
  done(event.detail);
});
document.body.addEventListener("htmx:responseError", ({ detail: { xhr } }) => {
  toast(troubleOf(xhr.status, xhr.responseText), { bad: true });
});
document.body.addEventListener("htmx:sendError", () => toast(UNREACHABLE, { bad: true }));

// The list.

const rows = () => $$(".row", list);
const searchForm = $(".search");

// The view of the list, as addresses have it.
function viewQuery(more = {}) {
  const said = [...new FormData(searchForm)].filter(([, value]) => value);
  return String(new URLSearchParams([...said, ...Object.entries(more)]));
}

const withQuery = (path, query) => (query ? `${path}?${query}` : path);

const refreshRows = soon(async () => {
  const view = viewQuery();
  const answer = await piece(`/inbox/rows?${viewQuery({ open: openedId() })}`);
  const html = await answer.text();
  // What is searched for meanwhile has rows of its own.
  if (answer.ok && view === viewQuery()) mergeRows([...parsed(html).body.children]);
}, 150);

// Brings the list up to date and moves nothing under the reader: rows that are there stay the same elements, and what
// was loaded below the newest page stays below it. What is as it was is not touched: a click begins and ends on it.
function mergeRows(fresh) {
  const known = new Map([...list.children].map((item) => [keyOf(item), item]));
  const merged = fresh.map((item) => updated(known.get(keyOf(item)), item));
  const tail = itemsBelow(merged);
  if (tail.length) merged.splice(-1, 1, ...tail);
  if (!isList(merged)) {
    const focused = document.activeElement;
    keepingPlace(() => list.replaceChildren(...merged));
    htmx.process(list);
    if (list.contains(focused)) focused.focus({ preventScroll: true });
  }
  markRow();
}

const keyOf = (item) => item.dataset.key ?? item.getAttribute("hx-get") ?? item.textContent;

const isList = (items) => items.length === list.children.length && items.every((item, at) => item === list.children[at]);

// Changes the list, and leaves what the reader sees of it where it is; at the top, the newest row comes into sight.
function keepingPlace(change) {
  const anchor = list.scrollTop > 0 && $$("[data-key]", list).find((item) => item.offsetTop >= list.scrollTop);
  const below = anchor && anchor.offsetTop - list.scrollTop;
  change();
  if (anchor && list.contains(anchor)) list.scrollTop = anchor.offsetTop - below;
}

function updated(known, fresh) {
  const row = known && $(".row", known);
  if (row && row.innerHTML !== $(".row", fresh).innerHTML) row.replaceChildren(...$(".row", fresh).childNodes);
  return known ?? fresh;
}

// Of the list as it is, what follows the last of these rows: pages that were loaded as the reader scrolled. It stands
// for the "more" at the end of these.
function itemsBelow(merged) {
  const last = merged.findLast((item) => item.dataset.key && list.contains(item));
  if (!last || !merged.at(-1).classList.contains("more")) return [];
  const all = [...list.children];
  return all.slice(all.indexOf(last) + 1).filter((item) => !merged.includes(item));
}

function dropRow(session) {
  for (const row of rows()) if (row.dataset.session === session) row.parentElement.remove();
}

function markRow() {
  for (const row of rows()) {
    const isOpen = row.dataset.session === openedId() && !row.classList.contains("hit");
    if (isOpen) row.setAttribute("aria-current", "true");
    else row.removeAttribute("aria-current");
  }
}

function step(by) {
  const all = rows();
  const focused = all.indexOf(document.activeElement);
  const from = focused >= 0 ? focused : all.findIndex((row) => row.hasAttribute("aria-current"));
  const next = all[Math.min(all.length - 1, Math.max(0, from + by))];
  next?.focus({ preventScroll: true });
  next?.scrollIntoView({ block: "nearest" });
}

// Where nothing is open, the address is that of the search, so that it can be kept.
function searched() {
  markRow();
  if (!conversation()) history.replaceState({}, "", withQuery(`${root}/`, viewQuery()));
}

searchForm.addEventListener("submit", (event) => {
  event.preventDefault();
  rows()[0]?.focus();
});

// The conversation.

const load = (address) => htmx.ajax("GET", address, { target: "#main", swap: "innerHTML" });

function visit(address) {
  history.pushState({}, "", address);
  load(address);
}

function opened() {
  const shown = conversation();
  document.body.classList.add("is-open");
  markRow();
  readyCode(shown);
  readyComposer(shown);
  const found = location.hash && document.getElementById(location.hash.slice(1));
  if (found) showFound(found);
  else showNews(shown);
}

function closeConversation() {
  const session = openedId();
  history.pushState({}, "", withQuery(`${root}/`, viewQuery()));
  document.body.classList.remove("is-open");
  document.title = "Recollect";
  main.replaceChildren(copyOf("nothing-open"));
  markRow();
  (rows().find((row) => row.dataset.session === session) ?? list).focus();
}

function showFound(turn) {
  for (const other of $$(".is-found", main)) other.classList.remove("is-found");
  turn.classList.add("is-found");
  turn.scrollIntoView({ block: "center" });
}

// What came since this browser last showed the session, with a line above it.
function showNews(shown) {
  const scroll = $("#scroll", shown);
  const seen = Number(remembered(`seen:${shown.dataset.session}`));
  const fresh = $$("#turns > .turn", shown).filter((turn) => seen && Number(turn.dataset.seq) > seen);
  scroll.scrollTop = scroll.scrollHeight;
  if (fresh.length) {
    const line = element("p", "news");
    line.append(element("span", "", `${fresh.length} new since your last visit`));
    fresh[0].before(line);
    if (line.offsetTop < scroll.scrollTop) line.scrollIntoView({ block: "start" });
  }
  rememberSeen(shown);
}

function rememberSeen(shown) {
  const { session, last } = shown.dataset;
  if (session && !document.hidden && Number(last) > Number(remembered(`seen:${session}`))) remember(`seen:${session}`, last);
}

// Code can be copied, and what is scrolled sideways can be reached with the keyboard.
function readyCode(within) {
  for (const table of $$(".prose table", within)) if (table.scrollWidth > table.clientWidth) table.tabIndex = 0;
  for (const pre of $$("pre", within)) {
    pre.tabIndex = 0;
    const around = pre.parentElement.classList.contains("code") ? pre.parentElement : pre;
    if ($(".copy", around)) continue;
    const text = pre.textContent;
    const button = element("button", "copy", "Copy");
    button.type = "button";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    around.classList.add("copied-from");
    around.append(button);
  }
}

const refreshConversation = soon(async () => {
  const session = openedId();
  const before = deeds;
  if (!session || isAnswering()) return;
  const db = new URLSearchParams(viewQuery()).get("db");
  const answer = await piece(withQuery(`/s/${encodeURIComponent(session)}`, db ? `db=${encodeURIComponent(db)}` : ""));
  const html = await answer.text();
  if (session !== openedId() || isAnswering() || before !== deeds) return;
  if (answer.status === 404) closeConversation();
  if (answer.ok) mergeConversation(parsed(html));
}, 120);

function mergeConversation(fresh) {
  const shown = conversation();
  const scroll = $("#scroll");
  const wasAtEnd = isAtEnd(scroll);
  mergeBar(fresh);
  document.title = $("title", fresh).textContent;
  // Where the newest turns are not shown, there is nothing that could be out of date.
  if (!$("[data-edge=newer]", shown)) mergeTurns($("#turns"), $("#turns", fresh));
  shown.dataset.last = $(".conversation", fresh).dataset.last;
  rememberSeen(shown);
  if (wasAtEnd) scroll.scrollTop = scroll.scrollHeight;
}

// An element that is replaced while it asks for something is not told the answer.
const isAsking = (within) => Boolean($(".htmx-request", within));

// What is above the conversation, unless somebody is about to change it.
function mergeBar(fresh) {
  const bar = $("#bar");
  const next = $("#bar", fresh);
  readyCode(next);
  if (bar.isEqualNode(next)) return;
  if (isAsking(bar) || $("#more", bar).open || $("#rename", bar)?.hidden === false) return;
  const controls = () => $$("a, button, summary", $("#bar"));
  const focused = controls().indexOf(document.activeElement);
  bar.replaceWith(next);
  htmx.process(next);
  controls()[focused]?.focus({ preventScroll: true });
}

function mergeTurns(turns, fresh) {
  for (const pending of $$(".pending", turns)) pending.remove();
  const kept = new Set($$(".turn", fresh).map((turn) => turn.id));
  const own = $$(":scope > .turn", fresh);
  const first = Number(own[0]?.dataset.seq ?? 0);
  for (const turn of own) mergeTurn(turns, turn);
  for (const turn of $$(".turn", turns)) {
    if (Number(turn.dataset.seq) >= first && !kept.has(turn.id)) turn.remove();
  }
}

function mergeTurn(turns, turn) {
  const known = document.getElementById(turn.id);
  if (known && (isSame(known, turn) || isAsking(known))) return;
  const before = turn.previousElementSibling;
  // Members' runs stood for themselves where a page began between them and the team's.
  for (const member of $$(".turn", turn)) document.getElementById(member.id)?.remove();
  if (known) known.replaceWith(turn);
  else turns.append(...(before?.classList.contains("pause") ? [before] : []), turn);
  readyCode(turn);
  htmx.process(turn);
}

// A run that has ended is never changed in its place, but for another run that takes it.
function isSame(known, turn) {
  return known.dataset.run === turn.dataset.run && known.dataset.status === turn.dataset.status
    && turn.dataset.status !== "running" && !$(".why [disabled]", known);
}

const isAtEnd = (scroll, within = 80) => scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < within;

// Writing.

function readyComposer(shown) {
  const form = $("#composer", shown);
  if (!form) return;
  const message = $("#message", form);
  const draft = `draft:${shown.dataset.session}`;
  message.value = remembered(draft);
  grow(message);
  message.addEventListener("input", () => { grow(message); remember(draft, message.value); });
  message.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  $("[type=file]", form).addEventListener("change", (event) => {
    showFiles(form, [...event.target.files].map((file) => file.name));
  });
}

// For browsers in which the style sheet cannot have it grow by itself.
function grow(message) {
  message.rows = Math.min(9, message.value.split("\n").length);
}

function showFiles(form, names) {
  $("#files", form).hidden = !names.length;
  $("#files", form).textContent = names.join(", ");
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.dataset.run) return;
  event.preventDefault();
  if (!isAnswering()) answer(form);
});

// Has a form answered, and shows the answer as it comes. The reader may leave the conversation meanwhile; what comes
// then is for an element that nobody sees, and for the database.
async function answer(form) {
  const shown = conversation();
  const fields = new FormData(form);
  const asked = String(fields.get("message") ?? "").trim();
  if (form.id === "composer" && !asked) return;
  const run = { id: "", session: shown.dataset.session, said: "", db: fields.get("db"), isUnwanted: false };
  const pending = showPending(shown, form, asked);
  setAnswering(shown, () => stop(run));
  if (asked) emptyComposer(shown, form);
  const trouble = await streamed(form.action, fields, (told) => tell(told, pending, run));
  setAnswering(shown, null);
  if (trouble) toast(trouble, { bad: true });
  if (run.id) settle(shown, run);
  else takeBack(shown, pending, asked);
}

// Tells what comes of a run; why it could not be told to its end, or "".
async function streamed(address, fields, tell) {
  try {
    const response = await fetch(address, { method: "POST", body: fields, headers: { Accept: "text/event-stream" } });
    if (!response.ok) return troubleOf(response.status, await response.text());
    for await (const told of eventsOf(response.body)) tell(told);
    return "";
  } catch {
    return "The connection was lost; the answer appears here when it is stored.";
  }
}

async function* eventsOf(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done: isOver } = await reader.read();
    if (isOver) return;
    const blocks = (text + value).split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").find((line) => line.startsWith("data: "));
      if (data) yield JSON.parse(data.slice("data: ".length));
    }
  }
}

function tell(told, pending, run) {
  const isFirst = !run.id;
  run.id ||= told.run_id;
  run.session ||= told.session_id;
  if (isFirst && run.isUnwanted) stop(run);
  const doing = $(".doing", pending);
  switch (told.event.replace(/^Team/, "")) {
    case "RunContent":
      run.said += told.content;
      doing.textContent = "";
      sketchSoon(pending, run);
      break;
    case "ReasoningContentDelta":
      doing.textContent = "thinking…";
      break;
    case "ToolCallStarted":
      doing.textContent = `calls ${told.tool.tool_name}…`;
      break;
    case "ToolCallCompleted":
      doing.textContent = "";
      break;
  }
}

function sketchSoon(pending, run) {
  if (run.isDrawn) return;
  run.isDrawn = true;
  requestAnimationFrame(() => {
    run.isDrawn = false;
    const scroll = pending.closest("#scroll");
    const wasAtEnd = scroll && isAtEnd(scroll, 160);
    $(".answer", pending).replaceChildren(...sketched(run.said));
    if (wasAtEnd) scroll.scrollTop = scroll.scrollHeight;
  });
}

// Where the answer will be: below, or in the place of the run that is taken up.
function showPending(shown, form, asked) {
  const turn = copyOf("pending-turn").firstElementChild;
  $(".user", turn).hidden = !asked;
  $(".asker", turn).textContent = shown.dataset.asker;
  $(".asked", turn).replaceChildren(...sketched(asked));
  $(".who", turn).textContent = $("[name=runner] option:checked", shown)?.textContent ?? $(".tools .who", shown)?.textContent ?? "";
  const place = form.closest(".turn");
  if (place) place.after(turn);
  else $("#turns", shown).append(turn);
  for (const button of $$(".why button", shown)) button.disabled = true;
  turn.scrollIntoView({ block: "end" });
  return turn;
}

function setAnswering(shown, onStop) {
  shown.classList.toggle("is-answering", Boolean(onStop));
  const stopButton = $("#stop", shown);
  if (!stopButton) return;
  $("#send", shown).hidden = Boolean(onStop);
  stopButton.hidden = !onStop;
  stopButton.onclick = onStop;
}

// A run is stopped by its id; until that is known, it is only not wanted any more.
function stop(run) {
  run.isUnwanted = true;
  if (run.id) send("stop", { run_id: run.id, session_id: run.session, ...(run.db ? { db: run.db } : {}) });
}

function emptyComposer(shown, form) {
  $("#message", form).value = "";
  grow($("#message", form));
  $("[type=file]", form).value = "";
  showFiles(form, []);
  remember(`draft:${shown.dataset.session}`, "");
}

// What was streamed is shown as it is stored; a conversation that has begun gets its address.
function settle(shown, run) {
  refreshRows();
  if (shown !== conversation()) return;
  if (shown.dataset.session) return refreshConversation();
  const address = withQuery(`${root}/s/${encodeURIComponent(run.session)}`, viewQuery());
  history.replaceState({}, "", address);
  load(address).then(() => $("#message").focus());
}

// Nothing was begun: the message is the writer's again.
function takeBack(shown, pending, asked) {
  pending.remove();
  for (const button of $$(".why button", shown)) button.disabled = false;
  const message = $("#message", shown);
  if (message && !message.value) message.value = asked;
}

// Markdown as far as a glance needs it while an answer is being written; the stored one is rendered by the server. Texts
// become text nodes and nothing else, so nothing in them can run.

function sketched(text) {
  return text.split(/^ {0,3}```/m).flatMap((part, place) => (place % 2 ? [codeBlock(part)] : part.split(/\n{2,}/).flatMap(block)));
}

function codeBlock(part) {
  const pre = element("pre", "");
  pre.append(element("code", "", part.replace(/^[^\n]*\n?/, "")));
  return pre;
}

function block(text) {
  const trimmed = text.trim();
  if (!trimmed) return [];
  const heading = /^(#{1,6}) (.*)$/.exec(trimmed);
  if (heading) return [inline(`h${heading[1].length}`, heading[2])];
  const lines = trimmed.split("\n");
  const marker = [/^\s*[-*+] +/, /^\s*\d+[.)] +/].find((one) => lines.every((line) => one.test(line)));
  if (!marker) return [inline("p", trimmed)];
  const items = element(marker.test("- ") ? "ul" : "ol", "");
  items.append(...lines.map((line) => inline("li", line.replace(marker, ""))));
  return [items];
}

function inline(tag, text) {
  const made = element(tag, "plain");
  for (const part of text.split(/(\*\*[^*\n]+\*\*|`[^`\n]+`)/)) {
    if (/^\*\*.+\*\*$/.test(part)) made.append(element("strong", "", part.slice(2, -2)));
    else if (/^`.+`$/.test(part)) made.append(element("code", "", part.slice(1, -1)));
    else made.append(part);
  }
  return made;
}

// What changes by itself, from whatever process. A browser keeps few connections to one server, and every page that is
// watched holds one; so only a page that is seen does.

const WATCH_AGAIN_MS = 10_000;
let watching = null;

function watch() {
  if (watching || document.hidden) return;
  const db = new URLSearchParams(viewQuery()).get("db");
  const source = new EventSource(withQuery(`${root}/v1/events`, db ? `db_id=${encodeURIComponent(db)}` : ""));
  function changed(event) {
    const told = JSON.parse(event.data);
    const isOpen = told.session_id === openedId();
    if (told.kind === "deleted") dropRow(told.session_id);
    if (told.kind === "deleted" && isOpen) closeConversation();
    else if (!told.session_id || isOpen) refreshConversation();
    refreshRows();
  }
  for (const kind of ["changed", "deleted", "reset"]) source.addEventListener(kind, changed);
  // What changed before this was watched, or while it was not, is not told.
  source.addEventListener("open", () => { refreshRows(); refreshConversation(); });
  // A browser takes up what broke off; what was refused is asked for again.
  source.addEventListener("error", () => {
    if (source.readyState !== EventSource.CLOSED || source !== watching) return;
    unwatch();
    setTimeout(watch, WATCH_AGAIN_MS);
  });
  watching = source;
}

function unwatch() {
  watching?.close();
  watching = null;
}

document.addEventListener("visibilitychange", () => (document.hidden ? unwatch() : watch()));
addEventListener("pagehide", unwatch);
addEventListener("pageshow", watch);

// The name, in its place.

function rename() {
  const form = $("#rename");
  if (!form?.hidden) return;
  const input = $("[name=name]", form);
  input.value = input.defaultValue || $("#name").textContent;
  $("#name").classList.add("unseen");
  form.hidden = false;
  input.focus();
  input.select();
}

function endRename() {
  const form = $("#rename");
  if (!form || form.hidden) return;
  const hadFocus = form.contains(document.activeElement);
  form.hidden = true;
  $("#name").classList.remove("unseen");
  if (hadFocus) $("#scroll").focus({ preventScroll: true });
}

main.addEventListener("dblclick", (event) => { if (event.target.id === "name") rename(); });
main.addEventListener("focusout", (event) => { if (event.target.closest("#rename")) endRename(); });
main.addEventListener("submit", (event) => {
  if (event.target.id !== "rename") return;
  const input = $("[name=name]", event.target);
  input.defaultValue = input.value;
  $("#name").textContent = input.value;
  $("#name").classList.remove("is-fallback");
  endRename();
});

// The palette.

const submit = (name) => $(`[data-form=${name}]`)?.requestSubmit();
const go = (query) => () => { location.href = `${root}/${query}`; };

const ACTIONS = [
  { label: "New conversation", hint: "n", act: startNew },
  { label: "Rename", hint: "r", act: rename },
  { label: "Generate a name", act: () => submit("generate") },
  { label: "Done, or open again", hint: "e", act: () => submit("archive") },
  { label: "Pin, or let go", hint: "p", act: () => submit("pin") },
  { label: "Delete", act: () => submit("delete") },
  { label: "Show what is open", act: go("") },
  { label: "Show what is pinned", act: go("?show=pinned") },
  { label: "Show what is done", act: go("?show=done") },
  { label: "Keyboard shortcuts", hint: "?", act: showHelp },
];

const FOUND = 12;

function startNew() {
  $("[data-do=new]")?.click();
}

function showHelp() {
  $("#help").showModal();
}

function openPalette() {
  if (palette.open) return;
  $("#palette-q").value = "";
  palette.showModal();
  fillPalette("");
}

async function fillPalette(text) {
  const wanted = text.trim();
  const actions = ACTIONS.filter(({ label }) => label.toLowerCase().includes(wanted.toLowerCase()));
  showItems(actions);
  if (!wanted) return;
  const answer = await piece(`/inbox/rows?${new URLSearchParams({ q: wanted, show: "all" })}`);
  const html = await answer.text();
  if (!answer.ok || $("#palette-q").value !== text) return;
  showItems([...actions, ...$$(".row", parsed(html)).slice(0, FOUND).map(itemOf)]);
}

function itemOf(row) {
  const parts = [$(".name", row), $(".snippet", row)].map((part) => part?.textContent.trim()).filter(Boolean);
  return { label: parts.join(" — "), hint: $("time", row).textContent, act: () => visit(row.getAttribute("href")) };
}

function showItems(items) {
  $("#palette-list").replaceChildren(...items.map(({ label, hint = "", act }, place) => {
    const item = element("li", "");
    item.id = `palette-${place}`;
    item.setAttribute("role", "option");
    item.append(element("span", "", label), element("span", "soft", hint));
    item.addEventListener("click", () => { palette.close(); act(); });
    return item;
  }));
  choose(0);
}

function choose(place) {
  const items = $$("#palette-list li");
  items.forEach((item, at) => item.setAttribute("aria-selected", String(at === place)));
  $("#palette-q").setAttribute("aria-activedescendant", items[place]?.id ?? "");
  items[place]?.scrollIntoView({ block: "nearest" });
}

$("#palette-q").addEventListener("input", (event) => fillPalette(event.target.value));
palette.addEventListener("keydown", (event) => {
  const items = $$("#palette-list li");
  const at = items.findIndex((item) => item.getAttribute("aria-selected") === "true");
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!by && event.key !== "Enter") return;
  event.preventDefault();
  if (event.key === "Enter") items[at]?.click();
  else if (items.length) choose((at + by + items.length) % items.length);
});

// The keyboard.

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  "/": () => $("#q").select(),
  n: startNew,
  r: rename,
  e: () => submit("archive"),
  p: () => submit("pin"),
  c: () => $("#message")?.focus(),
  z: () => $("button", toasts)?.click(),
  "?": showHelp,
};

document.addEventListener("keydown", (event) => {
  const hasModifier = event.ctrlKey || event.metaKey || event.altKey;
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
    event.preventDefault();
    openPalette();
  } else if (!hasModifier && !$("dialog[open]")) {
    pressed(event);
  }
});

function pressed(event) {
  const field = event.target.closest("input, textarea, select");
  if (event.key === "Escape") return field ? leave(field) : goBack();
  if (field || !Object.hasOwn(KEYS, event.key)) return;
  event.preventDefault();
  KEYS[event.key]();
}

function leave(field) {
  if (field.closest("#rename")) endRename();
  else if (field.closest(".menu")) goBack();
  else field.blur();
}

// Closes what was opened last.
function goBack() {
  const menu = $("details.menu[open]");
  if (menu) {
    menu.open = false;
    $("summary", menu).focus();
  } else if (conversation()) {
    closeConversation();
  }
}

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-do=help]")) showHelp();
  for (const menu of $$("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});

// What htmx has put into the page.

let belowEdge = 0;

document.body.addEventListener("htmx:beforeSwap", ({ detail: { target } }) => {
  const scroll = target.dataset.edge === "older" && $("#scroll");
  if (scroll) belowEdge = scroll.scrollHeight - scroll.scrollTop;
});

// Told of an element with new content, or of each that has come in the place of `detail.target`. Not before it has
// settled: until then htmx sets back what else is done to elements whose id was there before.
document.body.addEventListener("htmx:afterSettle", ({ target, detail }) => {
  if (target === main) {
    opened();
    (openedId() ? $("#scroll") : $("#message"))?.focus({ preventScroll: true });
  } else if (target === list) {
    searched();
  } else if (target.closest("#turns")) {
    readyCode(target);
    // Turns that come above leave the reader where they were.
    if (detail.target.dataset.edge === "older") $("#scroll").scrollTop = $("#scroll").scrollHeight - belowEdge;
  } else if ($("[data-over]", target)) {
    refreshRows();
  }
});

// The begin.

// The server says times as the clock here has them, once it knows where that is.
function tellZone() {
  const here = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const said = `${document.body.dataset.zoneCookie}=${here}`;
  const isKnown = () => document.cookie.split("; ").includes(said);
  if (!here || isKnown()) return;
  document.cookie = `${said}; path=${root || "/"}; max-age=31536000; samesite=lax`;
  if (isKnown()) location.reload();
}

// Another turn of what is shown is gone to; another page is loaded.
addEventListener("popstate", () => {
  const isHere = location.pathname === `${root}/s/${encodeURIComponent(openedId())}`;
  const turn = isHere && location.hash && document.getElementById(location.hash.slice(1));
  if (turn) showFound(turn);
  else location.reload();
});

tellZone();
if (conversation()) opened();
watch();
