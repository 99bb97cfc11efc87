/**
 * What runs inside a VM in tests of what is done when it dies: answers like the agent (inside-main.ts), or does to its
 * machine what the scenario's id says. Runs from source: Node inside finds the built modules beside it.
 */
import { openSync, readdirSync, readFileSync, readSync, writeFileSync, writeSync } from "node:fs";
import { release } from "node:os";
import { encodeFrame, FrameReader } from "../../../dist/harness/src/kernel/frames.js";

const [port] = readdirSync("/sys/class/virtio-ports");
const channel = openSync(`/dev/${port}`, "r+");
const send = (message) => void writeSync(channel, encodeFrame(message));
const commandLine = readFileSync("/proc/cmdline", "utf8").trim();

const actions = {
  panic: () => writeFileSync("/proc/sysrq-trigger", "c"),
  reset: () => writeFileSync("/proc/sysrq-trigger", "b"),
  quit: () => process.exit(3),
  silence: () => {},
};

const facts = {
  engine: "kvm",
  kernel: release(),
  commandLine,
  kvmBackend: "kvm_test",
  kvmParameters: {},
  capabilities: {},
  fileSystem: "none",
};
send({ type: "hello", facts });

/** What an oops says first, at its level; the kernel itself is as well as before. */
const OOPS = "<1>BUG: unable to handle page fault for address: ffffffff00000000\n";
const LATE_MS = 4000;
const reader = new FrameReader(({ id, scenario }) => {
  const action = actions[scenario.id];
  if (action !== undefined) return action();
  if (scenario.id === "oops") writeFileSync("/dev/kmsg", OOPS);
  if (scenario.id === "late") Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LATE_MS);
  send({ type: "result", id, result: { kind: "unsupported", message: commandLine } });
});
const piece = Buffer.alloc(65536);
for (;;) {
  const count = readSync(channel, piece);
  if (count === 0) break;
  reader.feed(piece.subarray(0, count));
}
