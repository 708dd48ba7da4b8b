// Runs every function that a module of wasm-bindgen exports, on Dawn.
//
//     node web.mjs MODULE.js
//
// A function passes when its promise is fulfilled. Exit code: 0 all pass, 1 some do not, 2 usage, 3 Dawn has no adapter.
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { create, globals } from 'webgpu';

const path = process.argv[2];
if (!path) {
  console.error('usage: node web.mjs MODULE.js');
  process.exit(2);
}
// what wgpu asks of a browser
const navigator = { gpu: create([]), userAgent: 'node' };
Object.assign(globalThis, globals, { window: globalThis, Window: class {} });
Object.defineProperty(globalThis, 'navigator', { value: navigator, configurable: true });
if (!(await navigator.gpu.requestAdapter())) {
  console.log('Dawn has no adapter');
  process.exit(3);
}

const exported = await import(pathToFileURL(resolve(path)));
const tests = Object.entries(exported).filter(([name, value]) => typeof value === 'function' && !name.startsWith('__'));
// a panic of Rust in a callback reaches no promise
let stop;
const stopped = new Promise((_, reject) => (stop = reject));
for (const event of ['uncaughtException', 'unhandledRejection']) process.on(event, stop);
let failed = 0;
for (const [name, test] of tests) {
  try {
    await Promise.race([test(), stopped]);
    console.log(`test ${name} ... ok`);
  } catch (error) {
    failed += 1;
    console.log(`test ${name} ... FAILED: ${error?.message ?? error}`);
  }
}
console.log(`${tests.length - failed} passed, ${failed} failed`);
process.exit(failed > 0 || tests.length === 0 ? 1 : 0); // Dawn's handles would keep node alive
