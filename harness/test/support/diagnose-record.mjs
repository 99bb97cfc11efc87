/**
 * Records what `daxfault diagnose` reads of VMs in every scene of diagnose-scenes.mjs, inside a booted kernel: the files of
 * fixtures/diagnose. Entry point of scripts/diagnose-record. Arguments: SPEC FOLDER [SCENE..]
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { obtainKernel } from "../../../dist/harness/src/kernel/cache.js";
import { guestKernelIn } from "../../../dist/harness/src/kernel/guest.js";
import { requireQemu, slownessOf } from "../../../dist/harness/src/kernel/qemu.js";
import { parseKernelSpec, usualGuest } from "../../../dist/harness/src/kernel/spec.js";
import { insideEnvironment, startKernelVm } from "../../../dist/harness/src/kernel/vm.js";
import { packagePath } from "../../../dist/harness/src/paths.js";
import { visibleLines } from "../../../dist/harness/src/report/encode.js";

const [spec, folder, ...words] = process.argv.slice(2);
if (spec === undefined || folder === undefined) {
  console.error("usage: scripts/diagnose-record SPEC FOLDER [SCENE..]");
  process.exit(64);
}
mkdirSync(folder, { recursive: true });
const kernel = await obtainKernel(parseKernelSpec(spec), null);
const directory = mkdtempSync(join(tmpdir(), "daxfault-scenes-"));
let failures = 0;
const CONSOLE_LINES = 40;
const qemu = requireQemu();
/** Only where a scene boots one. */
async function linuxGuest() {
  if (!words.some((word) => word.includes("linux"))) return null;
  const files = join(directory, "guest");
  mkdirSync(files);
  const { signal } = new AbortController();
  return {
    kernel: await guestKernelIn(files, { ...usualGuest, signal }),
    slowness: slownessOf(qemu.accelerator),
  };
}
const guest = await linuxGuest();
const place = join(directory, "vm");
mkdirSync(place);

function take(message) {
  const { type, name } = message;
  if (type === "failed") failures += 1;
  if (type !== "scene") {
    console.log(visibleLines(JSON.stringify(message)));
    return;
  }
  const { recording, text: seen, log, tookMs } = message;
  // A record says nothing of where this checkout is.
  const text = JSON.stringify(recording).replaceAll(process.cwd(), "/opt/daxfault");
  writeFileSync(join(folder, `${name}.json`), `${text}\n`);
  if (log !== null) writeFileSync(join(folder, `${name}.log`), log);
  console.log(visibleLines(`${name}, ${Math.round(tookMs)} ms\n${seen}`));
}

const vm = startKernelVm({
  kernel,
  qemu,
  cpus: 1,
  program: {
    command: [process.execPath, packagePath("harness/test/support/diagnose-scenes.mjs"), ...words],
    environment: { ...insideEnvironment, DAXFAULT_SCENE_GUEST: JSON.stringify(guest) },
  },
  directory: place,
  onMessage: take,
});
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => void vm.kill());
const { message } = await vm.ended;
console.log(message);
if (failures > 0) console.log(visibleLines(vm.console().slice(-CONSOLE_LINES).join("\n")));
rmSync(directory, { recursive: true, force: true });
process.exitCode = failures === 0 ? 0 : 1;
