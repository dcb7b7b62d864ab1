'use strict';
// Where things are: the checkout, what the runner has installed, and the package under test.

const path = require('node:path');

const ROOT = path.resolve(__dirname, '..', '..', '..', '..');
const TARGET = path.resolve(process.env.CARGO_TARGET_DIR || path.join(ROOT, 'target'));
const INSTALLED = path.join(TARGET, 'node-tests');
const MODULES = path.join(INSTALLED, 'node_modules');
const PACKAGE = path.join(ROOT, 'bindings', 'node');

/** `ws` for the oracle, a folder for a package that is somewhere, nothing for the checkout's. */
const chosen = process.env.WSABI_SUBJECT || PACKAGE;
const isOracle = chosen === 'ws';
const SUBJECT = isOracle ? path.join(MODULES, 'ws') : path.resolve(chosen);

module.exports = { ROOT, TARGET, INSTALLED, MODULES, PACKAGE, SUBJECT, isOracle };
