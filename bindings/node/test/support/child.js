'use strict';
// Programs in processes of their own: what ends them, what keeps them, what they leave behind.

const { spawn } = require('node:child_process');
const readline = require('node:readline');
const { SUBJECT } = require('./places');

const PRELUDE = `
  'use strict';
  const SUBJECT = ${JSON.stringify(SUBJECT)};
  const WebSocket = require(SUBJECT);
  const { WebSocketServer } = WebSocket;
  const say = (word) => require('node:fs').writeSync(1, JSON.stringify(word) + '\\n');
`;

/**
 * Runs a program; `say(value)` in it is a line for us. `line()` is the next value, null at the
 * end; `exited` is how it ended.
 */
function program(t, source, { args = [] } = {}) {
  const child = spawn(process.execPath, [...args, '-e', PRELUDE + source], {
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  t.after(() => child.kill('SIGKILL'));
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (chunk) => { stderr += chunk; });
  const lines = [];
  const waiting = [];
  const give = (value) => {
    const next = waiting.shift();
    if (next) next(value);
    else lines.push(value);
  };
  readline.createInterface({ input: child.stdout })
    .on('line', (line) => give(JSON.parse(line)))
    .on('close', () => give(null));
  return {
    child,
    line: () => (lines.length > 0
      ? Promise.resolve(lines.shift())
      : new Promise((resolve) => waiting.push(resolve))),
    exited: new Promise((resolve) => {
      child.on('close', (code, signal) => resolve({ code, signal, stderr, lines: lines.filter((l) => l !== null) }));
    }),
  };
}

module.exports = { PRELUDE, program };
