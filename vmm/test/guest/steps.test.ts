/** The Linux program with real processes on a real file: what the kernel does to each access, recorded by the program. */
import { type ChildProcess, spawn } from "node:child_process";
import {
  chmodSync,
  closeSync,
  existsSync,
  fstatSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeSync,
} from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import {
  MAP_SHARED,
  memfdCreate,
  mmap,
  munmap,
  PROT_READ,
  PROT_WRITE,
  viewOf,
} from "../../../sys/src/index.ts";
import {
  channelLayout,
  decodeDoorbell,
  type ProgramStep,
  type TaskProgram,
  WINDOW_BASE,
} from "../../src/guest/channel.ts";
import { caseLayout, LinuxCase, type LinuxSetup, stepsPath } from "../../src/guest/linux-case.ts";
import { access, counting, signal } from "../support/case.ts";

const FILE_BYTES = 0x4000;
const END_MS = 10_000;
const reason = existsSync(stepsPath()) ? null : "the program is not built";
const note = reason === null ? "" : ` (skipped: ${reason})`;

/** A run of the program over a file whose word at offset n is n + 1. */
class Run {
  readonly folder = mkdtempSync(join(tmpdir(), "daxfault-steps-"));
  readonly path = join(this.folder, "file");
  readonly file: number;
  readonly linux: LinuxCase;
  readonly child: ChildProcess;
  readonly rung: string[] = [];
  readonly #memory: bigint;
  readonly #ended: Promise<unknown>;
  /** What the host does at a signal, before its task goes on. */
  onSignal: (number: number) => void = () => {};
  /** What it does before a task changes the file. */
  onResults: () => void = () => {};

  constructor(programs: readonly TaskProgram[], setup: Partial<LinuxSetup> = {}) {
    this.file = openSync(this.path, "w+");
    const words = BigUint64Array.from({ length: FILE_BYTES / 8 }, (_, index) => BigInt(8 * index + 1));
    writeSync(this.file, new Uint8Array(words.buffer));
    const fd = memfdCreate("steps");
    ftruncateSync(fd, caseLayout.sizeofLinuxCase);
    const lengthBytes = caseLayout.sizeofLinuxCase;
    this.#memory = mmap({ lengthBytes, prot: PROT_READ | PROT_WRITE, flags: MAP_SHARED, fd });
    this.linux = new LinuxCase(viewOf(this.#memory, lengthBytes));
    const mappings = [{ at: 0n, fileOffset: 0n, length: BigInt(FILE_BYTES) }];
    this.linux.configure({ programs, path: this.path, mappings, windowBytes: 0x200000, ...setup });
    this.child = spawn(stepsPath(), ["3"], { stdio: ["pipe", "pipe", "inherit", fd] });
    closeSync(fd);
    this.#ended = new Promise((resolve) => this.child.on("exit", resolve));
    this.child.stdout?.on("data", (bytes: Buffer) => {
      for (let at = 0; at + 4 <= bytes.length; at += 4) this.#rang(bytes.readUInt32LE(at));
    });
  }

  #rang(value: number): void {
    const doorbell = decodeDoorbell(value);
    this.rung.push(doorbell.kind);
    if (doorbell.kind === "ready") this.child.stdin?.write("!");
    if (doorbell.kind === "results") {
      this.onResults();
      this.linux.answer(doorbell.task);
    }
    if (doorbell.kind !== "signal") return;
    this.onSignal(doorbell.number);
    this.linux.answer(doorbell.task ?? -1);
  }

  async until(kind: string): Promise<void> {
    const deadlineMs = performance.now() + END_MS;
    while (!this.rung.includes(kind)) {
      if (performance.now() > deadlineMs) throw new Error(`the program never said ${kind}`);
      await sleep(5);
    }
  }

  results(task = 0): readonly string[] {
    return Array.from({ length: 64 }, (_, step) => this.linux.channel.result(task, step).status);
  }

  async close(): Promise<void> {
    this.linux.stop();
    await Promise.race([this.#ended, sleep(2000)]);
    this.child.kill("SIGKILL");
    await this.#ended;
    munmap(this.#memory, caseLayout.sizeofLinuxCase);
    closeSync(this.file);
    rmSync(this.folder, { recursive: true });
  }
}

let run: Run | null = null;
afterEach(async () => {
  await run?.close();
  run = null;
});

/** Runs one task to the end; the file ends before the first access behind a signal. */
async function truncated(
  steps: readonly ProgramStep[],
  task: Partial<TaskProgram> = {},
): Promise<{ run: Run; statuses: readonly string[] }> {
  run = new Run([{ cpl: 3, steps: [signal("signal", 0), ...steps], ...task }]);
  const { file } = run;
  run.onSignal = () => ftruncateSync(file, 0);
  await run.until("finished");
  return { run, statuses: run.results().slice(1, 1 + steps.length) };
}

const words = (bytes: Uint8Array): bigint => new DataView(bytes.buffer).getBigUint64(0, true);

describe.skipIf(reason !== null)(`the Linux program${note}`, () => {
  it("touches the file: loads, stores, atomics, copies, a push, system calls", async () => {
    const steps = [
      access("load", 8, 8),
      access("store", 4, 0x1000, 0x11223344n),
      access("atomic", 8, 16),
      access("copy-from", 3, 24),
      access("copy-to", 3, 0x1008, 0x556677n),
      access("push", 8, 0x1010, 0x99n),
      access("kernel-read", 8, 32),
      access("kernel-write", 2, 0x1020, 0xaabbn),
    ];
    run = new Run([{ cpl: 3, steps }]);
    await run.until("finished");
    const { channel } = run.linux;
    expect(run.results().slice(0, 8)).toEqual(Array(8).fill("done"));
    expect([0, 2, 6].map((step) => words(channel.result(0, step).bytes))).toEqual([9n, 17n, 33n]);
    expect(channel.result(0, 3).bytes.slice(0, 4)).toEqual(Uint8Array.of(25, 0, 0, 0));
    const file = readFileSync(run.path);
    expect(file.readUInt32LE(0x1000)).toBe(0x11223344);
    expect(file.readBigUInt64LE(16)).toBe(18n);
    expect(file.readUIntLE(0x1008, 3)).toBe(0x556677);
    expect(file.readBigUInt64LE(0x1010)).toBe(0x99n);
    expect(file.readUInt16LE(0x1020)).toBe(0xaabb);
    expect(channel.taskState(0)).toBe("done");
    expect(run.linux.task(0)).toEqual({ pid: null, killedBy: null });
  });

  it.each([
    ["load", access("load", 8, 0x1000)],
    ["store", access("store", 8, 0x1000, 1n)],
    ["atomic", access("atomic", 8, 0x1000)],
    ["copy-from", access("copy-from", 24, 0x1000)],
    ["copy-to", access("copy-to", 24, 0x1000, 1n)],
    ["push", access("push", 8, 0x1000, 1n)],
    ["fetch", access("fetch", 4, 0x1000)],
  ] as const)(
    "a %s behind the end is SIGBUS with code and address, and the task dies of it",
    async (_verb, step) => {
      const { run: ended, statuses } = await truncated([step, access("load", 1, 0)]);
      expect(statuses).toEqual(["sigbus", "not-reached"]);
      const { channel } = ended.linux;
      expect(channel.result(0, 1).number).toBe(channelLayout.SIGBUS_ADRERR);
      expect(channel.taskState(0)).toBe("killed");
      expect(ended.linux.task(0).killedBy).toBe(7);
      expect(channel.events()).toMatchObject([
        { kind: "sigbus", task: 0, vector: 7, errorCode: 2n, cr2: WINDOW_BASE + 0x1000n },
      ]);
    },
  );

  it.each(["kernel-read", "kernel-write"] as const)(
    "a %s behind the end is EFAULT, and the task goes on",
    async (verb) => {
      const { run: ended, statuses } = await truncated([access(verb, 8, 0x1000, 1n)]);
      expect(statuses).toEqual(["efault"]);
      expect(ended.linux.channel.taskState(0)).toBe("done");
    },
  );

  it("a handler goes on with the next step, every time", async () => {
    const lost = [access("load", 8, 0x1000), access("store", 1, 0x2000, 1n), access("kernel-read", 8, 0)];
    const { run: ended, statuses } = await truncated(lost, { onSigbus: "next-step" });
    expect(statuses).toEqual(["sigbus", "sigbus", "efault"]);
    expect(ended.linux.channel.taskState(0)).toBe("done");
  });

  it("a handler with its stack in the lost page dies of SIGSEGV", async () => {
    const { run: ended, statuses } = await truncated([access("push", 8, 0x1000, 1n)], {
      onSigbus: "next-step",
    });
    expect(statuses).toEqual(["sigsegv"]);
    expect(ended.linux.task(0).killedBy).toBe(11);
  });

  it("a handler that begins the step again sees the file when it has grown again", async () => {
    run = new Run([
      { cpl: 3, onSigbus: "same-step", steps: [signal("signal", 0), access("load", 8, 0x1000)] },
    ]);
    const { file, linux } = run;
    run.onSignal = () => ftruncateSync(file, 0);
    await run.until("signal");
    while (linux.channel.events().length === 0) await sleep(2);
    ftruncateSync(file, FILE_BYTES);
    await run.until("finished");
    expect(linux.channel.result(0, 1)).toMatchObject({ status: "done" });
  });

  it("what no mapping covers is SIGSEGV", async () => {
    run = new Run([{ cpl: 3, steps: [access("load", 8, FILE_BYTES)] }]);
    await run.until("finished");
    expect(run.results()[0]).toBe("sigsegv");
    expect(run.linux.channel.events()).toMatchObject([{ kind: "sigsegv", errorCode: 2n }]);
  });

  it("a task that takes SIGSEGV for SIGBUS goes on by its handler, every time", async () => {
    const gone = [access("load", 8, FILE_BYTES), access("store", 8, FILE_BYTES, 1n)];
    run = new Run([{ cpl: 3, onSigbus: "next-step", sigsegvIsSigbus: true, steps: gone }]);
    await run.until("finished");
    expect(run.results().slice(0, 2)).toEqual(["sigsegv", "sigsegv"]);
    expect(run.linux.channel.taskState(0)).toBe("done");
  });

  it("makes system calls on the file itself: size, read, write, fsync, msync", async () => {
    run = new Run([
      {
        cpl: 3,
        steps: [
          access("file-size", 8, 0),
          access("file-read", 8, 0x1000),
          access("file-write", 8, 0x1008, 5n),
          access("load", 8, 0x1008),
          access("fsync", 0, 0),
          access("msync", 8, 0x1008),
          signal("signal", 0),
          access("file-size", 8, 0),
          access("file-read", 8, 0x1000),
          access("file-read", 8, 0x7fc),
          access("msync", 8, 0x1008),
        ],
      },
    ]);
    const { file, linux } = run;
    run.onSignal = () => ftruncateSync(file, 0x800);
    await run.until("finished");
    const { channel } = linux;
    const value = (step: number) => words(channel.result(0, step).bytes);
    expect([0, 1, 3, 7].map(value)).toEqual([BigInt(FILE_BYTES), 0x1001n, 5n, 0x800n]);
    const done = Array(8).fill("done");
    done[6] = "not-reached"; // A signal has no result.
    expect(run.results().slice(0, 11)).toEqual([...done, "short", "short", "done"]);
    expect([8, 9].map((step) => channel.result(0, step).number)).toEqual([0, 4]);
  });

  it("truncates the file, and changes it only when the host has taken the results so far", async () => {
    run = new Run([
      {
        cpl: 3,
        steps: [
          access("load", 8, 0x1000),
          access("file-truncate", 0, 0, 0x800n),
          access("file-size", 8, 0),
          access("file-write", 8, 0x1000, 5n),
          access("load", 8, 0x1000),
        ],
      },
    ]);
    const { file, linux } = run;
    const sizes: [number, readonly string[]][] = [];
    run.onResults = () => sizes.push([fstatSync(file).size, run?.results().slice(0, 4) ?? []]);
    await run.until("finished");
    expect(sizes).toEqual([
      [FILE_BYTES, ["done", "not-reached", "not-reached", "not-reached"]],
      [0x800, ["done", "done", "done", "not-reached"]],
    ]);
    const value = (step: number) => words(linux.channel.result(0, step).bytes);
    expect([0, 2, 4].map(value)).toEqual([0x1001n, 0x800n, 5n]);
    expect(fstatSync(file).size).toBe(0x1008);
  });

  it("reads and writes with O_DIRECT: bytes of a page, and a page to another file", async () => {
    run = new Run([
      {
        cpl: 3,
        steps: [
          access("file-read-direct", 8, 0x1008),
          access("kernel-pin", 0, 0x1000),
          signal("signal", 0),
          access("file-read-direct", 8, 0x804),
          access("file-read-direct", 8, 0x7fc),
          access("kernel-pin", 0, 0x1000),
        ],
      },
    ]);
    const { file, linux, folder } = run;
    run.onSignal = () => ftruncateSync(file, 0x800);
    await run.until("finished");
    const { channel } = linux;
    expect(words(channel.result(0, 0).bytes)).toBe(0x1009n);
    expect(run.results().slice(0, 6)).toEqual(["done", "done", "not-reached", "short", "short", "efault"]);
    expect([3, 4].map((step) => channel.result(0, step).number)).toEqual([0, 4]);
    expect(readdirSync(folder)).toEqual(["file"]);
  });

  it("loads by a child, whose death is its own", async () => {
    run = new Run([
      {
        cpl: 3,
        onSigbus: "next-step",
        steps: [
          access("fork-load", 8, 0x1000),
          signal("signal", 0),
          access("fork-load", 8, 0x1000),
          access("load", 8, 0),
          access("fork-load", 4, 0),
        ],
      },
    ]);
    const { file, linux } = run;
    run.onSignal = () => ftruncateSync(file, 0x1000);
    await run.until("finished");
    const { channel } = linux;
    expect(run.results().slice(0, 5)).toEqual(["done", "not-reached", "sigbus", "done", "done"]);
    expect([0, 3].map((step) => words(channel.result(0, step).bytes))).toEqual([0x1001n, 1n]);
    expect(channel.events()).toMatchObject([{ kind: "sigbus", task: 0, errorCode: 2n }]);
    expect(channel.taskState(0)).toBe("done");
  });

  it("executes the file, which is no program, and maps it for reading then", async () => {
    run = new Run([
      { cpl: 3, steps: [access("exec", 0, 0), access("load", 8, 0), access("store", 8, 0, 1n)] },
    ]);
    const { file, linux } = run;
    chmodSync(run.path, 0o700);
    await run.until("finished");
    // The test has it open for writing.
    expect(linux.channel.result(0, 0)).toMatchObject({ status: "errno", number: constants.errno.ETXTBSY });
    expect(run.results().slice(1, 3)).toEqual(["done", "sigsegv"]);
    expect(fstatSync(file).size).toBe(FILE_BYTES);
  });

  it("one task kills another, and a third that counts goes on", async () => {
    const waits: TaskProgram = { cpl: 3, steps: [signal("await", 5)] };
    const kills: TaskProgram = { cpl: 3, steps: [{ verb: "kill", size: 0, address: 0n, value: 0n }] };
    run = new Run([waits, kills, counting]);
    await run.until("finished");
    const { channel } = run.linux;
    expect([0, 1].map((task) => channel.taskState(task))).toEqual(["killed", "done"]);
    expect(run.linux.task(0).killedBy).toBe(9);
    const before = channel.count(2);
    await sleep(50);
    expect(channel.count(2)).toBeGreaterThan(before);
  });

  it("an access is repeated until the host raises the signal", async () => {
    run = new Run([{ cpl: 3, steps: [{ ...access("load", 8, 8), until: 3, tallies: true }] }]);
    const { channel } = run.linux;
    await run.until("ready");
    while (channel.tally(0, 0).accesses < 1000n) await sleep(2);
    expect(run.results()[0]).toBe("started");
    channel.raise(3);
    await run.until("finished");
    expect(run.results()[0]).toBe("done");
  });

  it.each([
    ["task 0 runs at CPL 0", [{ cpl: 0, steps: [] }]],
    ["task 1 runs with interrupts off", [counting, { ...counting, interruptsOff: true }]],
    [
      "task 0 asks for a kernel copy that is not Linux's own",
      [{ cpl: 3, steps: [{ ...access("kernel-read", 8, 0), noFixup: true }] }],
    ],
  ] as const)("refuses by name what a process cannot do: %s", async (text, programs) => {
    run = new Run(programs);
    await run.until("panic");
    expect(run.linux.refusal).toContain(text);
  });

  it.each([
    ["kernel-read", 8],
    ["load", 32],
  ] as const)("refuses a nested task's %s of %i bytes", async (verb, size) => {
    run = new Run([{ cpl: 3, nested: true, steps: [access(verb, size, 0)] }]);
    await run.until("panic");
    expect(run.linux.refusal).toBe("task 0 has a step that its nested VM cannot do");
  });

  it("refuses a nested task where there is no KVM", async () => {
    if (existsSync("/dev/kvm")) return;
    run = new Run([{ cpl: 3, nested: true, steps: [access("load", 8, 0)] }]);
    await run.until("panic");
    expect(run.linux.refusal).toBe("open /dev/kvm: errno 2");
  });

  it("refuses a file that is not there", async () => {
    run = new Run([counting], { path: "/nonexistent/file" });
    await run.until("panic");
    expect(run.linux.refusal).toBe("open /nonexistent/file: errno 2");
  });

  it("leaves no process behind, whatever its tasks do", async () => {
    run = new Run([counting, { cpl: 3, steps: [signal("await", 5)] }]);
    const { linux, child } = run;
    await run.until("ready");
    while (linux.channel.count(0) === 0n) await sleep(2);
    const pids = [0, 1].map((task) => linux.task(task).pid);
    child.kill("SIGKILL");
    await run.close();
    run = null;
    await expect
      .poll(() =>
        pids.filter(
          (pid) => existsSync(`/proc/${pid}`) && !readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z"),
        ),
      )
      .toEqual([]);
  });
});
