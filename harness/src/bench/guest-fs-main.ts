/**
 * A Linux guest on our VMM whose root file system is this machine's own, over virtio-fs, with two folders of a disk mounted
 * beside it: without and with a DAX window. Entry point, started inside a kernel VM: runs the suites on the disk itself,
 * then boots the guest, which runs them on its mounts. What came out goes to the other side of the VM.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  GuestMemory,
  PassthroughFileSystem,
  type PassthroughOptions,
  Session,
  type SessionOptions,
  VirtioFs,
  VirtioMmio,
} from "../../../fs-server/src/index.ts";
import { raiseDescriptorLimit } from "../../../sys/src/index.ts";
import {
  buildLinuxMachine,
  Kvm,
  type LinuxMachineOptions,
  MmapWindow,
  type MmioDevice,
  runLinux,
  WINDOW_BASE,
} from "../../../vmm/src/index.ts";
import { errorText } from "../error-text.ts";
import { GUEST_TEMPORARY } from "../kernel/initramfs.ts";
import { openPort, sendFrame } from "../kernel/inside-port.ts";
import { builtPath } from "../paths.ts";
import {
  FIO_FILE,
  type FromGuestFs,
  type GuestFsPlan,
  type InsidePlan,
  type InsideResult,
  PLAN_FILE,
  RESULTS_FILE,
  ROOT_TAG,
  SHARES,
} from "./guest-fs-messages.ts";

/** Quiet, and none of what this machine has not: each character is an exit, each probe some. */
const COMMAND_LINE =
  "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable no_timer_check nokaslr reboot=k " +
  "random.trust_cpu=on 8250.nr_uarts=1";
const WANTED_DESCRIPTORS = 1_048_576;
/** Of the root file system, which is read-only on the other side, too: nothing changes. */
const FOR_EVER_MS = 3_600_000;
const RESULTS_LOOK_MS = 1000;
const COUNTS_MS = 10_000;

const port = openPort();
const say = (message: FromGuestFs): void => sendFrame(port, message);

/** Tells what has been added to a file of results. */
class Results {
  readonly #path: string;
  #told = 0;

  constructor(path: string) {
    this.#path = path;
  }

  tell(): void {
    if (!existsSync(this.#path)) return;
    const lines = readFileSync(this.#path, "utf8").split("\n").slice(0, -1);
    for (const line of lines.slice(this.#told)) {
      say({ type: "result", result: JSON.parse(line) as InsideResult });
    }
    this.#told = lines.length;
  }
}

type ServedFolder = {
  readonly tag: string;
  readonly folder: string;
  readonly fs?: Partial<PassthroughOptions>;
  readonly session?: Omit<SessionOptions, "fs">;
  readonly hasWindow?: boolean;
};

class GuestFs {
  readonly #plan: GuestFsPlan;
  readonly #base = mkdtempSync(join(tmpdir(), "daxfault-guest-fs-"));
  readonly #window: MmapWindow;
  readonly #defects: string[] = [];
  readonly #sessions: { readonly tag: string; readonly session: Session }[] = [];

  constructor(plan: GuestFsPlan) {
    this.#plan = plan;
    this.#window = new MmapWindow(BigInt(plan.windowMiB) * 2n ** 20n);
  }

  /** The suites on the disk, by the same program. */
  async runUnderneath(): Promise<void> {
    const { suites, effort } = this.#plan;
    const results = join(this.#base, RESULTS_FILE);
    const plan: InsidePlan = {
      places: [{ name: "folder", folder: join(this.#base, "folder") }],
      beside: join(this.#base, "beside"),
      results,
      suites,
      effort,
      fio: null,
    };
    const path = join(this.#base, PLAN_FILE);
    writeFileSync(path, JSON.stringify(plan));
    const main = builtPath("harness/src/bench/guest-fs-inside-main.ts");
    const child = spawn(process.execPath, [main, path], { stdio: ["ignore", "inherit", "inherit"] });
    const code = await new Promise((done) => child.on("close", (code, signal) => done(code ?? signal)));
    new Results(results).tell();
    if (code !== 0) throw new Error(`the suites on the folder underneath ended with ${String(code)}`);
  }

  /** The folders of the guest's mounts, with its plan and fio's files. */
  #prepare(): void {
    const { suites, effort, fio } = this.#plan;
    const plan: InsidePlan = {
      places: SHARES.map(({ name }) => ({ name, folder: join(GUEST_TEMPORARY, name) })),
      beside: join(GUEST_TEMPORARY, "beside"),
      results: join(GUEST_TEMPORARY, "virtio-fs", RESULTS_FILE),
      suites,
      effort,
      fio,
    };
    for (const { name } of SHARES) {
      mkdirSync(this.#folder(name));
      if (fio !== null) writeFileSync(join(this.#folder(name), FIO_FILE), Buffer.alloc(fio.fileBytes, "fio"));
    }
    writeFileSync(join(this.#folder("virtio-fs"), PLAN_FILE), JSON.stringify(plan));
  }

  #folder(name: string): string {
    return join(this.#base, name);
  }

  #device(memory: GuestMemory, { tag, folder, fs, session, hasWindow = false }: ServedFolder): MmioDevice {
    const complain = (text: string): void => {
      this.#defects.push(`${tag}: ${text}`);
      say({ type: "progress", text: `${tag}: ${text}` });
    };
    const place = { gpa: WINDOW_BASE, lengthBytes: this.#window.sizeBytes };
    const server = new Session({
      ...session,
      fs: new PassthroughFileSystem(folder, fs),
      onDefect: (message, error) => complain(`${message}: ${errorText(error)}`),
      ...(hasWindow ? { window: this.#window } : {}),
    });
    this.#sessions.push({ tag, session: server });
    const device = new VirtioFs({ session: server, tag, ...(hasWindow ? { window: place } : {}) });
    return new VirtioMmio(device, memory, complain);
  }

  #devices(ram: Uint8Array): readonly MmioDevice[] {
    const { hva, sizeBytes } = this.#window;
    const memory = new GuestMemory([
      { kind: "ram", gpa: 0n, bytes: ram },
      { kind: "window", gpa: WINDOW_BASE, address: hva, lengthBytes: sizeBytes },
    ]);
    const root: ServedFolder = {
      tag: ROOT_TAG,
      folder: "/",
      fs: { readOnly: true, crossMounts: true },
      session: { keepCache: true, validity: { entryMs: FOR_EVER_MS, attributesMs: FOR_EVER_MS } },
    };
    const shares = SHARES.map(({ name, options }) => ({
      tag: name,
      folder: this.#folder(name),
      hasWindow: options !== "",
    }));
    return [root, ...shares].map((one) => this.#device(memory, one));
  }

  #machine(): LinuxMachineOptions {
    const plan = this.#plan;
    return {
      kernel: readFileSync(plan.kernel),
      initrd: readFileSync(plan.initrd),
      commandLine: COMMAND_LINE,
      ramBytes: plan.ramMiB * 2 ** 20,
      sharedBytes: 0,
      cpu: { cpus: 1, asyncPageFaults: "offered", machineCheckRecovery: "offered" },
      window: { hva: this.#window.hva, sizeBytes: Number(this.#window.sizeBytes), as: "device" },
      devices: (ram) => this.#devices(ram),
      policy: "stop",
      pageFaultForm: "present-read",
    };
  }

  /** Requests so far, by mount. */
  #counts(): string {
    return this.#sessions.map(({ tag, session }) => `${tag} ${session.counts.requests}`).join(", ");
  }

  async runGuest(): Promise<void> {
    this.#prepare();
    const kvm = Kvm.open();
    const machine = buildLinuxMachine(kvm, this.#machine());
    const results = new Results(join(this.#folder("virtio-fs"), RESULTS_FILE));
    let end: string | null = null;
    const run = runLinux(machine, {
      line: (text) => say({ type: "line", text }),
      stopped: ({ reason }) => stop(`stopped: ${reason}`),
      ended: ({ why }) => {
        end ??= "how" in why ? why.how : "message" in why ? why.message : why.kind;
      },
    });
    const stop = (how: string): void => {
      end ??= how;
      run.stop();
    };
    const limit = setTimeout(() => stop("its time is over"), this.#plan.lifeMs);
    const look = setInterval(() => results.tell(), RESULTS_LOOK_MS);
    const count = setInterval(() => say({ type: "progress", text: this.#counts() }), COUNTS_MS);
    await run.exited;
    clearTimeout(limit);
    clearInterval(look);
    clearInterval(count);
    results.tell();
    say({ type: "ended", how: end ?? "unknown", defects: this.#defects });
  }
}

async function main(path: string): Promise<void> {
  raiseDescriptorLimit(WANTED_DESCRIPTORS);
  const bench = new GuestFs(JSON.parse(readFileSync(path, "utf8")) as GuestFsPlan);
  say({ type: "progress", text: "the folder underneath" });
  await bench.runUnderneath();
  say({ type: "progress", text: "the guest boots" });
  await bench.runGuest();
}

const [, , plan = ""] = process.argv;
await main(plan).catch((error: unknown) => say({ type: "ended", how: errorText(error), defects: [] }));
// The machine goes with this process.
process.exit(0);
