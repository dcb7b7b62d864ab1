// Drives Chromium for tools/check_browser.py: `node driver.mjs PORT CHROMIUM`, with playwright-core
// in NODE_PATH.
//
// Connects to 127.0.0.1:PORT and answers each line there, a JSON object
// {"page": NAME, "do": ACTION, "with": [ARGUMENT, ...]}, by {"result": ...} or {"error": TEXT}.
// Ends, and Chromium with it, when that connection ends. Does not know what is checked.
import net from 'node:net';
import readline from 'node:readline';
import { createRequire } from 'node:module';
import { setTimeout as wait } from 'node:timers/promises';

const { chromium } = createRequire(import.meta.url)('playwright-core');

const DEADLINE = 30_000;
const [port, executablePath] = process.argv.slice(2);
const socket = net.connect(Number(port), '127.0.0.1');
const browser = await chromium.launch({
  executablePath,
  headless: true, // --headless, and a fresh --user-data-dir
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
const tabs = new Map(); // name -> {page, problems, room}

/** A room that is played by the tests: what the page sends, and the connection to answer on. */
async function play(page) {
  const room = { heard: [], connection: null };
  await page.routeWebSocket(/\/chat$/, (connection) => {
    room.connection = connection;
    connection.onMessage((data) => room.heard.push(data));
  });
  return room;
}

const actions = {
  /** A tab of its own profile, in which everything that goes wrong is kept. */
  async open(name, url, { played = false, clock = false, ...options } = {}) {
    const context = await browser.newContext({ locale: 'en-GB', timezoneId: 'UTC', ...options });
    context.setDefaultTimeout(DEADLINE);
    const page = await context.newPage();
    const problems = [];
    page.on('pageerror', (error) => problems.push(String(error)));
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) problems.push(message.text());
    });
    page.on('request', (request) => {
      const { protocol, host } = new URL(request.url());
      if (protocol !== 'data:' && host !== new URL(url).host) problems.push(`it asked for ${request.url()}`);
    });
    if (clock) await page.clock.install();
    tabs.set(name, { page, problems, room: played ? await play(page) : null });
    await page.goto(url);
  },
  async close(name) {
    await tabs.get(name).page.context().close();
    tabs.delete(name);
  },
  problems: (name) => tabs.get(name).problems.splice(0),
  key: (name, key) => tabs.get(name).page.keyboard.press(key),
  wheel: (name, pixels) => tabs.get(name).page.mouse.wheel(0, pixels),
  /** Waits until the expression is true, and answers its value. */
  async until(name, expression, words) {
    for (const end = Date.now() + DEADLINE; ;) {
      const value = await tabs.get(name).page.evaluate(expression);
      if (value) return value;
      if (Date.now() > end) throw new Error(`not within ${DEADLINE / 1000} s: ${words}`);
      await wait(20);
    }
  },
  evaluate: (name, expression) => tabs.get(name).page.evaluate(expression),

  /** The next message of the page to the played room. */
  async heard(name) {
    const { room } = tabs.get(name);
    for (const end = Date.now() + DEADLINE; !room.heard.length;) {
      if (Date.now() > end) throw new Error('the page sent nothing');
      await wait(20);
    }
    return room.heard.shift();
  },
  tell: (name, ...messages) => { for (const message of messages) tabs.get(name).room.connection.send(message); },
  hang_up: (name, code, reason) => tabs.get(name).room.connection.close({ code, reason }),
  /** Moves the page's clock, which stands still otherwise. */
  pass: (name, milliseconds) => tabs.get(name).page.clock.runFor(milliseconds),
  freeze: (name) => tabs.get(name).page.clock.pauseAt(Date.now() + 1000),
};
// Actions that are a page's own in playwright.
for (const action of ['fill', 'click', 'hover', 'focus', 'reload', 'emulateMedia', 'setViewportSize', 'screenshot']) {
  actions[action] = async (name, ...rest) => { await tabs.get(name).page[action](...rest); };
}

for await (const line of readline.createInterface({ input: socket })) {
  const request = JSON.parse(line);
  let answer;
  try {
    answer = { result: (await actions[request.do](request.page, ...request.with)) ?? null };
  } catch (error) {
    answer = { error: String(error.message ?? error) };
  }
  socket.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
