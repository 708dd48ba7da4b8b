// Compiles every *.wgsl of a folder with Tint and builds its compute pipeline on Dawn's null backend, which needs no driver.
//
//     node tint.mjs DIR
//
// naga accepts barriers and subgroup operations in non-uniform control flow; Tint does not, and neither do browsers.
// Devices have WebGPU's default limits, and only the features that a shader's own `enable` lines name. Every shader's entry
// point is `main`. Prints a line for each thing Tint says, then the count; warnings fail nothing. Exit code: 0 all pass,
// 1 some do not, 2 usage.
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { create } from 'webgpu';

/** `enable` extension -> device feature. An extension that is not listed here is for Tint to refuse. */
const FEATURES = { f16: 'shader-f16', subgroups: 'subgroups' };

const gpu = create(['backend=null']);
const devices = new Map();

/** The device with exactly these features (a sorted list) and the default limits. */
async function deviceWith(features) {
  const key = features.join();
  if (!devices.has(key)) {
    const adapter = await gpu.requestAdapter(); // an adapter serves one device
    if (!adapter) throw new Error('Dawn has no null adapter here');
    devices.set(key, await adapter.requestDevice({ requiredFeatures: features }));
  }
  return devices.get(key);
}

function featuresOf(code) {
  const names = [...code.matchAll(/^\s*enable\s+([\w\s,]+);/gm)].flatMap((found) => found[1].split(',').map((n) => n.trim()));
  return [...new Set(names.flatMap((name) => FEATURES[name] ?? []))].sort();
}

/** Compiles one shader: whether it failed, and what Tint or Dawn said (warnings too), a line each. */
async function compile(name, code) {
  const device = await deviceWith(featuresOf(code));
  device.pushErrorScope('validation');
  const module = device.createShaderModule({ label: name, code });
  const { messages } = await module.getCompilationInfo();
  const refusal = await device.popErrorScope();
  const lines = messages.map((m) => `${m.lineNum}:${m.linePos}: ${m.type}: ${m.message}`);
  if (refusal) return { failed: true, lines: lines.length > 0 ? lines : [`error: ${refusal.message}`] };
  try {
    await device.createComputePipelineAsync({ label: name, layout: 'auto', compute: { module, entryPoint: 'main' } });
  } catch (error) {
    return { failed: true, lines: [...lines, `pipeline: ${error.message.trim().replace(/\s*\n\s*/g, ' ')}`] };
  }
  return { failed: false, lines };
}

/** What Tint must refuse, by its message, and what it must not: a check that cannot fail is none. */
async function selfTest() {
  const entry = '@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32)';
  const buffers = [...Array(9).keys()];
  const cases = [
    { name: 'sound', code: `var<workgroup> tile: array<u32, 64>; ${entry} { tile[lane] = lane; workgroupBarrier(); }` },
    { name: 'barrier in an if', code: `${entry} { if lane < 3u { workgroupBarrier(); } }`, says: /uniform control flow/ },
    { name: 'barrier after a return', code: `${entry} { if lane < 3u { return; } workgroupBarrier(); }`, says: /uniform control flow/ },
    { name: 'subgroup sum', code: `enable subgroups; ${entry} { _ = subgroupAdd(lane); }` },
    { name: 'subgroup sum in an if', code: `enable subgroups; ${entry} { if lane < 3u { _ = subgroupAdd(lane); } }`, says: /uniform control flow/ },
    { name: 'no enable line', code: `${entry} { _ = f16(lane); }`, says: /f16/ },
    { name: 'no entry point', code: 'fn other() {}', says: /main/ },
    {
      name: 'nine buffers',
      code: `${buffers.map((b) => `@group(0) @binding(${b}) var<storage, read_write> b${b}: array<u32>;`).join(' ')}
        ${entry} { ${buffers.map((b) => `b${b}[lane] = 0u;`).join(' ')} }`,
      says: /storage buffers/,
    },
  ];
  for (const { name, code, says } of cases) {
    const { failed, lines } = await compile(name, code);
    if (failed !== (says !== undefined) || (says && !says.test(lines.join('\n')))) {
      throw new Error(`self-test "${name}": expected ${says ?? 'no error'}, Tint said: ${lines.join('\n') || 'nothing'}`);
    }
  }
}

const folder = process.argv[2];
if (!folder) {
  console.error('usage: node tint.mjs DIR');
  process.exit(2);
}
await selfTest();
const names = readdirSync(folder, { recursive: true }).map(String).filter((name) => name.endsWith('.wgsl')).sort();
let count = 0;
for (const name of names) {
  const { failed, lines } = await compile(name, readFileSync(join(folder, name), 'utf8'));
  count += failed;
  for (const line of lines) console.log(`${name}:${line}`);
}
if (names.length === 0) console.log(`no shader in ${folder}`);
console.log(`tint: ${names.length - count} passed, ${count} failed`);
process.exit(count > 0 || names.length === 0 ? 1 : 0); // Dawn's handles would keep node alive
