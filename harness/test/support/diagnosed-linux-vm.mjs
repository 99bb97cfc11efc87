/**
 * A Linux guest to be diagnosed and rescued: two processes of it touch a file all the time, on a vCPU each, through virtio-fs's DAX
 * window; in a process of its own, which knows nothing of the diagnosis. Argument: JSON {folder, kernel, slowness}; the file is
 * FOLDER/file. It says `touched` on standard output once both have, and from then on `progress` whenever both have again.
 */
import { PassthroughFileSystem } from "../../../dist/fs-server/src/index.js";
import { ATTRIBUTE_MS, mounts } from "../../../dist/harness/src/engines/linux/plan.js";
import { LOAD_OFFSET, RACE_FILE_BYTES, STORE_OFFSET } from "../../../dist/harness/src/guards/race.js";
import { writeRaceFile } from "../../../dist/harness/src/guards/race-place.js";
import { NEVER_RAISED } from "../../../dist/harness/src/guards/race-rounds.js";
import { BOOT_BOUND_MS, folderOf, racedGuest } from "../../../dist/harness/src/guards/raced-guest.js";
import { WINDOW_BASE } from "../../../dist/vmm/src/index.js";

const LOOK_MS = 5;
const { folder, kernel, slowness } = JSON.parse(process.argv[2]);
writeRaceFile(folder);
const guest = racedGuest({ kernel, slowness }, { cpus: 2 });
await guest.up();
folderOf(guest).serve(new PassthroughFileSystem(folder), {
  validity: { entryMs: ATTRIBUTE_MS, attributesMs: ATTRIBUTE_MS },
});
const touching = { size: 8, until: NEVER_RAISED, tallies: true };
const task = { cpl: 3, onSigbus: "same-step", sigsegvIsSigbus: true };
const at = (offset) => WINDOW_BASE + BigInt(offset);
const programs = [
  { ...task, cpu: 0, steps: [{ ...touching, verb: "load", address: at(LOAD_OFFSET), value: 0n }] },
  { ...task, cpu: 1, steps: [{ ...touching, verb: "store", address: at(STORE_OFFSET), value: 0n }] },
];
const prepared = {
  tasks: programs.map((program, index) => ({ actor: index === 0 ? "loads" : "stores", program })),
  mappings: [{ at: 0n, fileOffset: 0n, length: BigInt(RACE_FILE_BYTES) }],
  windowBytes: RACE_FILE_BYTES,
  mount: mounts["dax-window"],
  policy: "inject-pf",
};
const { channel, start } = await guest.prepare(prepared, "file");
const end = (why) => {
  process.stdout.write(`ended: ${why}\n`);
  process.exit(1);
};
start(
  { stopped: ({ reason }) => end(reason), ended: ({ why }) => end(why.kind) },
  { ioPatienceMs: BOOT_BOUND_MS * slowness, isIoAnswered: true },
);
const counts = () => [0, 1].map((index) => channel.tally(index, 0).accesses);
let known = counts();
let hasTouched = false;
setInterval(() => {
  const now = counts();
  if (now.some((count, index) => count <= known[index])) return;
  known = now;
  process.stdout.write(hasTouched ? "progress\n" : "touched\n");
  hasTouched = true;
}, LOOK_MS);
