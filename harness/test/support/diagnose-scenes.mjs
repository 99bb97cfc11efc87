/**
 * Runs inside a booted kernel: makes each scene, lets `daxfault diagnose`, a process that knows nothing of it, look at the
 * machine, and sends what it said to the other side. Arguments: scenes, or nothing for all.
 */
import { spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { createConnection } from "node:net";
import { release, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { collect } from "../../../dist/harness/src/diagnose/collect.js";
import { RecordingHost } from "../../../dist/harness/src/diagnose/recording.js";
import { diagnosisText } from "../../../dist/harness/src/diagnose/text.js";
import { ThisHost } from "../../../dist/harness/src/diagnose/this-host.js";
import { diagnose } from "../../../dist/harness/src/diagnose/verdict.js";
import { openMount } from "../../../dist/harness/src/engines/mount.js";
import { openPort, sendFrame } from "../../../dist/harness/src/kernel/inside-port.js";
import { turnSwapOn } from "../../../dist/harness/src/kernel/inside-swap.js";
import { packagePath } from "../../../dist/harness/src/paths.js";
import { Protector } from "../../../dist/harness/src/protect/protector.js";
import { act } from "../../../dist/harness/src/rescue/act.js";
import { lookAfter } from "../../../dist/harness/src/rescue/after.js";
import { planOf, stepText } from "../../../dist/harness/src/rescue/plan.js";

const port = openPort();
const say = (message) => sendFrame(port, message);
const mebibyte = 2 ** 20;

spawnSync("mount", ["-t", "debugfs", "nodev", "/sys/kernel/debug"]);
spawnSync("mount", ["-t", "fusectl", "nodev", "/sys/fs/fuse/connections"]);
turnSwapOn();

const folder = mkdtempSync(join(tmpdir(), "scene-"));
let number = 0;

function newFile(name = `guest file ${number}`) {
  number += 1;
  const place = join(folder, String(number));
  mkdirSync(place);
  const path = join(place, name);
  writeFileSync(path, Buffer.alloc(4 * mebibyte, 0x41));
  return { place, name, path };
}

/** The VM's process, once the guest has touched the file's first page. */
async function startVm(options, program = "diagnosed-vm.mjs") {
  const child = spawn(
    process.execPath,
    [packagePath(`harness/test/support/${program}`), JSON.stringify(options)],
    {
      stdio: ["pipe", "pipe", "inherit"],
    },
  );
  await new Promise((resolve, reject) => {
    child.stdout.on("data", resolve);
    child.on("exit", () => reject(new Error("the VM has ended")));
    setTimeout(
      () => reject(new Error(`the guest has touched nothing in ${START_MS / 1000} s`)),
      START_MS,
    ).unref();
  }).catch((error) => {
    child.kill("SIGKILL");
    throw error;
  });
  const goOn = async () => {
    child.stdin.write("go\n");
    await sleep(1500);
  };
  const progress = async (boundMs) => await hasProgress(child, boundMs);
  return { child, goOn, progress };
}

/** Of a guest that boots Linux on an emulated CPU. */
const START_MS = 200_000;

/** Until the VM's process says that its guest has made progress; not if it says something else. */
async function hasProgress(child, boundMs) {
  return await new Promise((resolve) => {
    const heard = (bytes) => {
      clearTimeout(timer);
      resolve(bytes.toString().startsWith("progress"));
    };
    const timer = setTimeout(() => {
      child.stdout.off("data", heard);
      resolve(false);
    }, boundMs);
    child.stdout.once("data", heard);
  });
}

const rule = { operation: "read", at: 3 * mebibyte, after: 0, times: null };
const FAULTS = {
  hang: [{ ...rule, action: { kind: "hang" } }],
  slow: [{ ...rule, action: { kind: "delay", ms: 20_000 } }],
  often: [{ ...rule, action: { kind: "delay", ms: 700 } }],
};

/** A VM whose memory is a file of our FUSE mount, and the server's process. */
async function vmOnMount(options, faults = []) {
  const { place, name } = newFile();
  const directory = join(place, "..", `${number}-mount`);
  mkdirSync(directory);
  const mount = await openMount({
    sourceDirectory: place,
    directory,
    transport: "devfuse",
    faults,
    slowness: 8,
  });
  const vm = await startVm({ file: join(mount.mountpoint, name), ...options });
  return { ...vm, mount, servers: processesWith("serve-main.js"), reapers: processesWith("reaper") };
}

function processesWith(word) {
  return readdirSync("/proc")
    .filter((pid) => /^[0-9]+$/.test(pid))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(word);
      } catch {
        return false;
      }
    })
    .map(Number);
}

const kill = (pids, name) => {
  for (const pid of pids) process.kill(pid, name);
};

const HOSTILE_NAME = "a\n\u001b[31mred (deleted)\u0007";

async function truncated(options, name) {
  const { path } = newFile(name);
  const vm = await startVm({ file: path, kind: "load", ...options });
  truncateSync(path, 0);
  await vm.goOn();
  return vm;
}

/** Each makes its VM and returns it. */
const scenes = {
  "truncated-without-apf": () => truncated({}),
  "truncated-with-apf": () => truncated({ asyncPageFaults: "on" }),
  "truncated-without-lapic": () => truncated({ lapicInKernel: false }),
  "truncated-hostile-name": () => truncated({}, HOSTILE_NAME),
  async "truncated-untouched"() {
    const { path } = newFile();
    const vm = await startVm({ file: path, kind: "halt" });
    truncateSync(path, 0);
    await vm.goOn();
    return vm;
  },
  async spins() {
    const vm = await startVm({ file: newFile().path, kind: "reread" });
    await vm.goOn();
    return vm;
  },
  /** The micro-guest's tasks wait by asking again and again; qemu-halts has a guest that halts. */
  async polls() {
    const vm = await startVm({ file: newFile().path, kind: "halt" });
    await vm.goOn();
    return vm;
  },
  async "process-stopped"() {
    const vm = await startVm({ file: newFile().path, kind: "reread" });
    await vm.goOn();
    kill([vm.child.pid], "SIGSTOP");
    await sleep(200);
    return vm;
  },
  async "server-silent"() {
    const vm = await vmOnMount({ kind: "load", offset: 3 * mebibyte }, FAULTS.hang);
    await vm.goOn();
    return vm;
  },
  async "server-silent-synchronous"() {
    const vm = await vmOnMount({ kind: "load", offset: 3 * mebibyte, lapicInKernel: false }, FAULTS.hang);
    await vm.goOn();
    return vm;
  },
  async "server-stopped"() {
    const vm = await vmOnMount({ kind: "load", offset: 3 * mebibyte, lapicInKernel: false });
    kill(vm.servers, "SIGSTOP");
    await vm.goOn();
    return vm;
  },
  async "server-dead"() {
    const vm = await vmOnMount({ kind: "load", offset: 3 * mebibyte });
    kill(vm.reapers, "SIGKILL");
    kill(vm.servers, "SIGKILL");
    await sleep(300);
    await vm.goOn();
    return vm;
  },
  async "server-dead-unmounted"() {
    const vm = await vmOnMount({ kind: "load", offset: 3 * mebibyte });
    kill(vm.servers, "SIGKILL");
    await sleep(1500);
    await vm.goOn();
    return vm;
  },
  async "server-slow"() {
    const vm = await vmOnMount({ kind: "load", offset: 3 * mebibyte }, FAULTS.slow);
    vm.child.stdin.write("go\n");
    await sleep(100);
    return vm;
  },
};

Object.assign(scenes, {
  /** A vCPU that does nothing but read a page that is taken away again and again. */
  async evicting() {
    const options = { kind: "reread", offset: 3 * mebibyte, memory: "evicted", cpus: 2 };
    const vm = await vmOnMount(options);
    await vm.goOn();
    return vm;
  },
});

/** A page that a handler of userfaultfd owes: a worker of the kernel's waits, or the vCPU's own thread. */
Object.assign(scenes, {
  async "userfault-silent"() {
    const vm = await startVm({
      file: newFile().path,
      kind: "load",
      offset: 3 * mebibyte,
      memory: "userfault",
    });
    await vm.goOn();
    return vm;
  },
  async "userfault-silent-synchronous"() {
    const memory = { memory: "userfault", lapicInKernel: false };
    const vm = await startVm({ file: newFile().path, kind: "load", offset: 3 * mebibyte, ...memory });
    await vm.goOn();
    return vm;
  },
});

/** Real-mode code at the reset vector's segment: the guest of a QEMU without firmware. Each writes to port 0xe9 as it begins. */
const guestCode = {
  // out 0xe9, al; mov al, 0xff; out 0x21, al; out 0xa1, al; sti; xor ax, ax; mov ds, ax
  // again: mov ax, [0x8000]; inc cx; jnz again; out 0xe9, al; jmp again
  // With interrupts off KVM has no asynchronous page faults (kvm_can_do_async_pf()), and no loop.
  reads: [
    ...[0xe6, 0xe9, 0xb0, 0xff, 0xe6, 0x21, 0xe6, 0xa1, 0xfb, 0x31, 0xc0, 0x8e, 0xd8],
    ...[0xa1, 0x00, 0x80, 0x41, 0x75, 0xfa, 0xe6, 0xe9, 0xeb, 0xf6],
  ],
  // out 0xe9, al; mov al, 0xff; out 0x21, al; out 0xa1, al; sti
  // begin: mov ax, 0x1000; next: mov ds, ax; mov bx, [0]; add ax, 0x100; cmp ax, 0xa000; jb next; out 0xe9, al; jmp begin
  walks: [
    ...[0xe6, 0xe9, 0xb0, 0xff, 0xe6, 0x21, 0xe6, 0xa1, 0xfb, 0xb8, 0x00, 0x10, 0x8e, 0xd8],
    ...[0x8b, 0x1e, 0x00, 0x00, 0x05, 0x00, 0x01, 0x3d, 0x00, 0xa0, 0x72, 0xf2, 0xe6, 0xe9, 0xeb, 0xeb],
  ],
  spins: [0xe6, 0xe9, 0xeb, 0xfe],
  halts: [0xe6, 0xe9, 0xfa, 0xf4, 0xeb, 0xfd],
};

const QEMU_BOUND_MS = 60_000;
const LOOK_MS = 5;

async function eventually(isSo, boundMs) {
  for (const untilMs = performance.now() + boundMs; performance.now() < untilMs; await sleep(LOOK_MS)) {
    if (isSo()) return true;
  }
  return false;
}

function threadNames(pid) {
  const names = readdirSync(`/proc/${pid}/task`).map((tid) =>
    readFileSync(`/proc/${pid}/task/${tid}/comm`, "utf8"),
  );
  return names.join("");
}

/**
 * QEMU whose guest memory is a file, once its guest runs, or its vCPU's thread stands where it does not.
 * @param group a memory cgroup: its memory is its own then, and no file
 */
async function startQemu(code, options = [], group = null) {
  const accelerator = options.includes("-accel") ? [] : ["-accel", "kvm"];
  const bytes = 64 * 1024;
  const bios = Buffer.alloc(bytes, 0x90);
  bios.set(guestCode[code], 0);
  bios.set([0xea, 0x00, 0x00, 0x00, 0xf0], 0xfff0); // jmp 0xf000:0
  const { place } = newFile();
  const [image, memory, log, said] = ["bios", "guest-ram", "qemu.log", "said"].map((name) =>
    join(place, name),
  );
  writeFileSync(image, bios);
  writeFileSync(said, "");
  const words = [
    ["-nodefaults", "-display", "none", "-vga", "none", "-cpu", "qemu64", "-bios", image],
    ["-name", `guest=web,,1 ${code},debug-threads=on`, "-machine", "pc,memory-backend=ram", "-m", "64M"],
    [
      "-object",
      group === null
        ? `memory-backend-file,id=ram,share=on,mem-path=${memory},size=64M`
        : "memory-backend-ram,id=ram,size=64M",
    ],
    ["-debugcon", `file:${said}`],
    accelerator,
    options,
  ].flat();
  const out = openSync(log, "w");
  const command = ["qemu-system-x86_64", ...words];
  const inGroup = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', group];
  const [program, ...args] = group === null ? command : [...inGroup, ...command];
  const child = spawn(program, args, { stdio: ["ignore", out, out] });
  const hasSaid = () => statSync(said).size > 0;
  const isUp = options.includes("-S") ? () => threadNames(child.pid).includes("CPU 0/KVM") : hasSaid;
  const isThere = await eventually(() => child.exitCode !== null || isUp(), QEMU_BOUND_MS);
  if (child.exitCode !== null) throw new Error(`QEMU has ended: ${readFileSync(log, "utf8")}`);
  if (!isThere) {
    child.kill("SIGKILL");
    throw new Error(
      `QEMU's guest has said nothing in ${QEMU_BOUND_MS / 1000} s: ${readFileSync(log, "utf8")}`,
    );
  }
  const progress = async (boundMs) => {
    const { size } = statSync(said);
    return await eventually(() => statSync(said).size > size, boundMs);
  };
  return { child, memory, log: () => readFileSync(log, "utf8"), progress };
}

async function truncatedQemu(options) {
  const vm = await startQemu("reads", options);
  truncateSync(vm.memory, 0);
  await sleep(2000);
  return vm;
}

Object.assign(scenes, {
  "qemu-truncated": () => truncatedQemu([]),
  "qemu-truncated-without-lapic": () => truncatedQemu(["-accel", "kvm,kernel-irqchip=off"]),
  "qemu-spins": () => startQemu("spins"),
  "qemu-halts": () => startQemu("halts"),
  /** Started, and never let run. */
  "qemu-not-begun": () => startQemu("spins", ["-S"]),
  async "qemu-paused"() {
    const socket = join(folder, `qmp-${number}`);
    const vm = await startQemu("reads", ["-qmp", `unix:${socket},server=on,wait=off`]);
    await qmp(socket, "stop");
    return vm;
  },
  /** The same, let go on. */
  async "qemu-continued"() {
    const socket = join(folder, `qmp-${number}`);
    const vm = await startQemu("reads", ["-qmp", `unix:${socket},server=on,wait=off`]);
    await qmp(socket, "stop");
    await qmp(socket, "cont");
    return vm;
  },
});

/** One command to a QEMU's monitor, once it is answered. */
async function qmp(path, execute) {
  const socket = createConnection({ path });
  socket.setTimeout(QEMU_BOUND_MS, () => socket.destroy());
  const returns = (async () => {
    for await (const line of createInterface({ input: socket })) {
      const said = JSON.parse(line);
      if (said.error !== undefined) throw new Error(`QEMU's monitor: ${line}`);
      if (said.QMP !== undefined) socket.write('{"execute":"qmp_capabilities","id":0}\n');
      if (said.id === 0) socket.write(`${JSON.stringify({ execute, id: 1 })}\n`);
      if (said.id === 1) return true;
    }
    return false;
  })();
  const isDone = await returns.finally(() => socket.destroy());
  if (!isDone) throw new Error(`QEMU's monitor does not answer ${execute} in ${QEMU_BOUND_MS / 1000} s`);
}

/** As the command does, in a process that knows nothing of the VM but is up already: an emulated CPU starts Node in seconds. */
async function look() {
  const recorder = new RecordingHost(new ThisHost());
  const setup = { kernel: release(), isRoot: true };
  const { facts } = await collect(recorder, { kind: "all" }, setup);
  const diagnoses = facts.vms.map((vm) => diagnose(vm, facts.pageWorkers));
  return {
    verdicts: diagnoses.map(({ verdict }) => verdict),
    tookMs: facts.tookMs,
    text: diagnosisText(facts, diagnoses, plainStyle),
    recording: recorder.recording(setup),
  };
}

const PROGRESS_MS = 60_000;

/** The hung VM, rescued as the command does it: what was said, and how long it took until the guest made progress. */
async function rescue(name, vm, kind) {
  const host = new ThisHost();
  // What it had said before it hung has been read by now.
  const isStill = !(await vm.progress(1500));
  const beginMs = performance.now();
  const { facts } = await collect(
    host,
    { kind: "pid", pid: vm.child.pid },
    { kernel: release(), isRoot: true },
  );
  const diagnosis = diagnose(facts.vms[0], facts.pageWorkers);
  const { steps } = planOf(diagnosis);
  const step = steps.find((one) => one.kind === kind);
  const actMs = performance.now();
  const progress = kind === "stop" ? false : vm.progress(PROGRESS_MS);
  const done = await act(host, step, facts.vms[0].startTicks);
  const doneMs = performance.now();
  const goesOn = await progress;
  const endMs = performance.now();
  const after = kind === "stop" ? null : await lookAfter(host, facts.vms[0]);
  say({
    type: "rescue",
    name,
    isStill,
    verdict: diagnosis.verdict.text,
    steps: steps.map(stepText),
    done,
    hasProgress: goesOn,
    lookMs: Math.round(actMs - beginMs),
    stepMs: Math.round((doneMs - actMs) * 10) / 10,
    progressAfterStepBeganMs: Math.round((endMs - actMs) * 10) / 10,
    after,
  });
  await clear(vm);
}

/** A Linux guest two of whose processes touch the file all the time. */
async function startLinux() {
  const guest = JSON.parse(process.env.DAXFAULT_SCENE_GUEST ?? "null");
  if (guest === null) throw new Error("no kernel for a Linux guest");
  const place = join(folder, "linux");
  mkdirSync(place);
  const vm = await startVm({ folder: place, ...guest }, "diagnosed-linux-vm.mjs");
  return { vm, file: join(place, "file") };
}

const rescues = {
  async "rescue-micro"() {
    await rescue("rescue-micro", await truncated({}), "grow");
  },
  async "rescue-micro-with-apf"() {
    await rescue("rescue-micro-with-apf", await truncated({ asyncPageFaults: "on" }), "grow");
  },
  async "rescue-linux"() {
    const { vm, file } = await startLinux();
    await sleep(1000);
    truncateSync(file, 0);
    // Until both processes stand.
    for (let look = 0; look < 60 && (await vm.progress(1500)); look += 1);
    await rescue("rescue-linux", vm, "grow");
  },
  /** Of a file whose name is an attack: nothing of it comes out as anything but text. */
  async "rescue-by-command"() {
    const vm = await truncated({}, HOSTILE_NAME);
    const beginMs = performance.now();
    const progress = vm.progress(240_000).then(() => performance.now() - beginMs);
    const command = [packagePath("dist/harness/src/cli/bin.js"), "rescue", "--pid", String(vm.child.pid)];
    const dry = spawnSync(process.execPath, command, { encoding: "utf8" });
    const real = spawn(process.execPath, [...command, "--accept-zeros"], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    let text = "";
    for (const stream of [real.stdout, real.stderr]) stream.on("data", (bytes) => (text += bytes));
    const code = await new Promise((resolve) => real.on("close", resolve));
    // biome-ignore lint/suspicious/noControlCharactersInRegex: none of them may be there
    if (/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/.test(dry.stdout + text))
      throw new Error(`a control character: ${JSON.stringify(dry.stdout + text)}`);
    say({
      type: "rescue-command",
      dry: dry.stdout,
      dryCode: dry.status,
      text,
      code,
      progressMs: Math.round(await progress),
    });
    await clear(vm);
  },
  async "rescue-qemu"() {
    await rescue("rescue-qemu", await truncatedQemu([]), "grow");
  },
  async "rescue-qemu-stop"() {
    const socket = join(folder, "qmp");
    await rescue(
      "rescue-qemu-stop",
      await truncatedQemu(["-qmp", `unix:${socket},server=on,wait=off`]),
      "stop",
    );
  },
};

/** Rounds of every way of making a file shorter, by turns (truncating-process.mjs). */
const CUTS = 130;
const READY_MS = 120_000;

/** Every way of making the VM's file shorter, tried while it runs and is protected, by a process that has had it open before. */
async function protect(name, vm, path) {
  // Another user tries, too.
  chmodSync(path, 0o666);
  // One emulated CPU: what starts meanwhile is not to wait for the guest.
  kill([vm.child.pid], "SIGSTOP");
  const program = packagePath("harness/test/support/truncating-process.mjs");
  const truncater = spawn(process.execPath, [program, path, "-"], { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface({ input: truncater.stdout })[Symbol.asyncIterator]();
  await lines.next();
  const news = [];
  const ending = new AbortController();
  const options = { pids: [vm.child.pid], folder: null, allow: [], seal: false };
  const protector = new Protector(new ThisHost(), options, (one) => news.push(one));
  protector.missing();
  const running = protector.run(ending.signal);
  const isReady = await eventually(() => news.some(({ type }) => type === "ready"), READY_MS);
  kill([vm.child.pid], "SIGCONT");
  const wentOn = await vm.progress(PROGRESS_MS);
  truncater.stdin.write(`all ${CUTS}\n`);
  const tried = JSON.parse((await lines.next()).value ?? "null");
  const goesOn = await vm.progress(PROGRESS_MS);
  ending.abort();
  await running;
  await protector.close();
  const files = news.flatMap((one) => (one.type === "file" ? [[one.path, one.means, one.reason]] : []));
  const count = (kind) => news.filter(({ type }) => type === kind).length;
  const seen = { refused: count("refused"), shorter: count("shorter"), gaps: count("gap") };
  say({ type: "protect", name, isReady, files, wentOn, tried, goesOn, ...seen });
  truncater.kill("SIGKILL");
  await clear(vm);
}

const protections = {
  async "protect-qemu"() {
    const vm = await startQemu("reads");
    await protect("protect-qemu", vm, vm.memory);
  },
  async "protect-linux"() {
    const { vm, file } = await startLinux();
    await protect("protect-linux", vm, file);
  },
};

const plain = (text) => text;
const plainStyle = { widthColumns: 120, bold: plain, dim: plain, verdict: (_kind, text) => text };

/** Ends everything of the scene; a VM in D is woken by its server's end. */
async function clear(vm) {
  kill(vm.servers ?? [], "SIGKILL");
  vm.reclaimer?.kill("SIGKILL");
  try {
    vm.child.kill("SIGCONT");
    vm.child.kill("SIGKILL");
  } catch {
    // It has ended.
  }
  await vm.mount?.close().catch(() => {});
  await sleep(300);
}

const pagesSwappedIn = () => Number(/^pswpin ([0-9]+)$/m.exec(readFileSync("/proc/vmstat", "utf8"))?.[1]);

/** A memory cgroup of its own. */
function memoryGroup() {
  const root = join(folder, "cgroup");
  if (!existsSync(root)) {
    mkdirSync(root);
    spawnSync("mount", ["-t", "cgroup2", "none", root]);
    writeFileSync(join(root, "cgroup.subtree_control"), "+memory");
  }
  number += 1;
  const group = join(root, `vm-${number}`);
  mkdirSync(group);
  return group;
}

/** So that the machine is not held for longer, however slow it is: what was looked at until then counts. */
const MOMENTS_MS = 150_000;

/** Healthy moments of VMs: what is no finding. A VM counts at each look at it; what is not fine is said in full. */
async function moments(name, vms, looks) {
  const members = new Map(vms.map(({ member, vm }) => [vm.child.pid, member]));
  const kinds = {};
  const took = [];
  const alarms = [];
  const open = [];
  const before = pagesSwappedIn();
  let count = 0;
  const untilMs = performance.now() + MOMENTS_MS;
  let done = 0;
  for (; done < looks && performance.now() < untilMs; done += 1) {
    const { facts } = await collect(new ThisHost(), { kind: "all" }, { kernel: "", isRoot: true });
    for (const vm of facts.vms) {
      const { kind, severity, text } = diagnose(vm, facts.pageWorkers).verdict;
      const member = members.get(vm.pid) ?? "unknown";
      const row = `${member}: ${kind}, ${severity}`;
      kinds[row] = (kinds[row] ?? 0) + 1;
      count += 1;
      if (severity === "hung") alarms.push(`${member}: ${text}`);
      if (severity === "open") open.push(`${member}: ${text}`);
    }
    took.push(Math.round(facts.tookMs));
  }
  const swappedIn = pagesSwappedIn() - before;
  say({ type: "moments", name, looks: done, moments: count, kinds, alarms, open, swappedIn, tookMs: took });
}

const healthy = {
  busy: async () => await scenes.spins(),
  idle: async () => await scenes["qemu-halts"](),
  /** It leaves KVM again and again: QEMU answers its port. */
  exits: async () => await startQemu("reads"),
  async "slow-io"() {
    const options = { kind: "reread", offset: 3 * mebibyte, memory: "evicted" };
    const vm = await vmOnMount(options, FAULTS.often);
    await vm.goOn();
    return vm;
  },
  evicted: async () => await scenes.evicting(),
  /** A guest that reads 576 KiB again and again, in a cgroup that has to give up 8 MiB five times a second. */
  async swapping() {
    const group = memoryGroup();
    const vm = await startQemu("walks", [], group);
    const reclaimer = spawn(
      "sh",
      ["-c", 'while :; do echo 8M > "$0/memory.reclaim"; sleep 0.2; done', group],
      { stdio: "ignore" },
    );
    return { ...vm, reclaimer };
  },
};

/** While the next one starts, those that run already are stopped: one emulated CPU is too little for both. */
async function startTogether(members) {
  const vms = [];
  for (const member of members) {
    const vm = await healthy[member]();
    vms.push({ member, vm });
    if (vms.length < members.length) kill([vm.child.pid], "SIGSTOP");
  }
  kill(
    vms.map(({ vm }) => vm.child.pid),
    "SIGCONT",
  );
  await sleep(1500);
  return vms;
}

const asked = process.argv.slice(2);
const isAsked = (name) => asked.length === 0 || asked.includes(name);
for (const [name, make] of Object.entries(scenes)) {
  if (!isAsked(name)) continue;
  try {
    const vm = await make();
    say({ type: "scene", name, ...(await look()), log: vm.log?.() ?? null });
    await clear(vm);
  } catch (error) {
    say({ type: "failed", name, message: String(error?.stack ?? error) });
  }
}
for (const [name, run] of Object.entries({ ...rescues, ...protections })) {
  if (!asked.includes(name)) continue;
  try {
    await run();
  } catch (error) {
    say({ type: "failed", name, message: String(error?.stack ?? error) });
  }
}
const looks = Number(/^([0-9]+)x$/.exec(asked.find((word) => /^[0-9]+x$/.test(word)) ?? "")?.[1] ?? 10);
/** `40x idle+idle+busy`: these beside each other, each takes the others' processor; without names each kind alone. */
const groups = asked
  .map((word) => word.split("+"))
  .filter((members) => members.every((member) => Object.hasOwn(healthy, member)));
const isMoments = asked.length === 0 || asked.some((word) => /^[0-9]+x$/.test(word));
const eachAlone = Object.keys(healthy).map((name) => [name]);
for (const members of isMoments ? (groups.length > 0 ? groups : eachAlone) : []) {
  const name = members.join("+");
  try {
    const vms = await startTogether(members);
    await moments(name, vms, looks);
    for (const { vm } of vms) await clear(vm);
  } catch (error) {
    say({ type: "failed", name, message: String(error?.stack ?? error) });
  }
}
say({ type: "done" });
await sleep(500);
process.exit(0);
