#!/usr/bin/env node
// Runs the tests of the Node package: `ws` first through those that describe what both do, then
// the package through all of them. Ends with the line `N passed, N failed, N skipped`.
//
//   node bindings/node/test/run.mjs                     everything
//   node bindings/node/test/run.mjs behaviour/close     files whose names contain that
//   WSABI_SUBJECT=ws node bindings/node/test/run.mjs    the oracle only
//   WSABI_SUBJECT=FOLDER node bindings/node/test/run.mjs   a package that is somewhere else

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { run } from 'node:test';
import { inspect } from 'node:util';

const require = createRequire(import.meta.url);
const HERE = import.meta.dirname;
const { INSTALLED, PACKAGE, ROOT } = require('./support/places.js');

// For one file, all of its tests and its end; a file that never ends has leaked something.
const FILE_DEADLINE = 60_000;

// Tests that take longer than these milliseconds are named, when asked for.
const SLOW = Number(process.env.WSABI_TEST_SLOW || Infinity);

/**
 * What the tests need from npm, installed outside of the sources, once per change of the lists. It is
 * put into its place as a whole, because another runner may be at work.
 */
function install() {
  const lists = ['package.json', 'package-lock.json'].map((name) => path.join(HERE, name));
  const key = createHash('sha256');
  for (const list of lists) key.update(fs.readFileSync(list));
  const wanted = key.update(process.platform + process.arch).digest('hex');
  const stamp = '.made-from';
  const present = path.join(INSTALLED, stamp);
  if (fs.existsSync(present) && fs.readFileSync(present, 'utf8') === wanted) return;
  const fresh = `${INSTALLED}.${process.pid}`;
  fs.mkdirSync(fresh, { recursive: true });
  for (const list of lists) fs.copyFileSync(list, path.join(fresh, path.basename(list)));
  execFileSync('npm', ['ci', '--no-audit', '--no-fund', '--ignore-scripts', '--loglevel=error'], {
    cwd: fresh,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  fs.writeFileSync(path.join(fresh, stamp), wanted);
  fs.rmSync(INSTALLED, { recursive: true, force: true });
  fs.renameSync(fresh, INSTALLED);
}

/** Puts the addon of this checkout where the package looks for it. */
function build() {
  execFileSync(path.join(PACKAGE, 'build.sh'), { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit'] });
}

function files(folder, wanted) {
  return fs.readdirSync(path.join(HERE, folder))
    .filter((name) => /\.test\.m?js$/.test(name))
    .map((name) => path.join(HERE, folder, name))
    .filter((file) => wanted.length === 0 || wanted.some((part) => path.relative(HERE, file).includes(part)))
    .sort();
}

function explain(error) {
  const cause = error.cause ?? error;
  const lines = (typeof cause?.stack === 'string' ? cause.stack : inspect(cause)).split('\n');
  return lines.filter((line) => !/node:internal/.test(line)).slice(0, 30).map((line) => `    ${line}`).join('\n');
}

/** Runs one file in a process of its own; what it prints goes to our stderr. */
function runFile(file, label, counts) {
  const place = (name) => `[${label}] ${path.relative(HERE, file)}${path.isAbsolute(name) ? '' : `: ${name}`}`;
  return new Promise((resolve, reject) => {
    run({ files: [file], concurrency: 1, timeout: FILE_DEADLINE })
      .on('test:pass', ({ name, skip, details }) => {
        if (skip !== undefined) {
          counts.skipped += 1;
          console.log(`SKIP ${place(name)}: ${skip}`);
          return;
        }
        counts.passed += 1;
        if (details.duration_ms > SLOW) console.log(`slow ${place(name)}: ${Math.round(details.duration_ms)} ms`);
      })
      .on('test:fail', ({ name, details }) => {
        counts.failed += 1;
        console.log(`FAIL ${place(name)}\n${explain(details.error)}`);
      })
      .on('test:stderr', ({ message }) => process.stderr.write(message))
      .on('error', reject)
      .on('end', resolve)
      .resume();
  });
}

/** Runs files against one subject, two at a time. */
async function runFiles(subject, list, counts) {
  process.env.WSABI_SUBJECT = subject;
  const label = subject === 'ws' ? 'ws' : 'wsabi';
  const begin = Date.now();
  const before = { ...counts };
  const waiting = [...list];
  const worker = async () => {
    while (waiting.length > 0) await runFile(waiting.shift(), label, counts);
  };
  await Promise.all([worker(), worker()]);
  const seconds = ((Date.now() - begin) / 1000).toFixed(1);
  const [passed, failed] = [counts.passed - before.passed, counts.failed - before.failed];
  console.log(`${label}: ${passed} passed and ${failed} failed in ${list.length} files, ${seconds} s`);
}

const wanted = process.argv.slice(2);
const chosen = process.env.WSABI_SUBJECT;
const behaviour = files('behaviour', wanted);
const own = files('own', wanted);
if (behaviour.length + own.length === 0) {
  console.error(`no test file has ${wanted.join(' or ')} in its name`);
  process.exit(2);
}
install();
if (!chosen) build();
const counts = { passed: 0, failed: 0, skipped: 0 };
if (!chosen || chosen === 'ws') await runFiles('ws', behaviour, counts);
if (chosen !== 'ws') await runFiles(chosen ? path.resolve(chosen) : PACKAGE, [...behaviour, ...own], counts);
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed > 0 || counts.passed === 0 ? 1 : 0;
