/**
 * The agent inside a VM: runs cases that come in over a virtio-serial port with the machine's own engines, and sends the
 * results back. Entry point; started by the VM's init, alone with its kernel, as root. It judges nothing.
 */
import { closeSync, mkdtempSync, read, readFileSync } from "node:fs";
import { cpus, release } from "node:os";
import { join } from "node:path";
import type { EngineName, RunResult } from "../../../../language/src/index.ts";
import type { DaxQemu } from "../../engine.ts";
import { startBusy } from "../../engines/busy.ts";
import { QEMU_WINDOW_BASE } from "../../engines/linux/qemu/arguments.ts";
import { engineRow, kernelEngines, loadEngine } from "../../engines/registry.ts";
import { errorText } from "../../error-text.ts";
import { KernelError } from "../../kernel/error.ts";
import { FrameReader } from "../../kernel/frames.ts";
import { openPort, sendFrame } from "../../kernel/inside-port.ts";
import { turnSwapOn } from "../../kernel/inside-swap.ts";
import { allowHugePages, ownMachine, thisMachine } from "../../machine.ts";
import { runDirectoryParent } from "../../paths.ts";
import { RUN_DIRECTORY_PREFIX, sweep } from "../../run/sweep.ts";
import { traceFaultPath } from "../../tracing/fault-path.ts";
import { type ExitWatch, injectedTwiceText, watchExits } from "../../tracing/injected-twice.ts";
import type { AgentTask, FromInside, InsideFacts, ToInside } from "./messages.ts";

const PIECE_BYTES = 64 * 1024;

const { guest, qemu: guestQemu, busy } = JSON.parse(process.argv[2] ?? "") as AgentTask;

async function daxQemu(): Promise<DaxQemu> {
  if (guestQemu === null || "failure" in guestQemu) {
    throw new KernelError(guestQemu?.failure ?? "no QEMU was named for guests");
  }
  return guestQemu;
}

class Agent {
  readonly #port = openPort();
  readonly #directory = mkdtempSync(join(runDirectoryParent, RUN_DIRECTORY_PREFIX));
  readonly #engines = new Map<EngineName, ReturnType<typeof loadEngine>>();
  /** Of this boot; cases run one at a time. */
  readonly #exits: ExitWatch = watchExits(this.#directory);

  #send(message: FromInside): void {
    sendFrame(this.#port, message);
  }

  async start(): Promise<void> {
    const row = kernelEngines.find(({ nature }) => nature.runsKvm);
    if (row === undefined) throw new Error("no engine runs KVM inside kernels");
    const kvm = await this.#engine(row.name);
    const available = await kvm.available();
    const machine = thisMachine();
    const facts: InsideFacts = {
      engine: row.name,
      kernel: release(),
      commandLine: readFileSync("/proc/cmdline", "utf8").trim(),
      kvmBackend: machine.kvmBackend,
      kvmParameters: machine.kvmParameters,
      capabilities: available.kind === "yes" ? (await kvm.attest()).capabilities : {},
      fileSystem: machine.runDirectory.fileSystem,
    };
    this.#send({ type: "hello", facts });
    // They end with the VM.
    startBusy(busy, this.#directory);
    const reader = new FrameReader((message) => void this.#receive(message as ToInside));
    this.#listen(reader);
  }

  /** Until the other side has gone. */
  #listen(reader: FrameReader): void {
    const piece = Buffer.alloc(PIECE_BYTES);
    read(this.#port, piece, 0, piece.length, null, (error, count) => {
      if (error !== null || count === 0) {
        closeSync(this.#port);
        process.exit(error === null ? 0 : 1);
      }
      reader.feed(piece.subarray(0, count));
      this.#listen(reader);
    });
  }

  #engine(name: EngineName): ReturnType<typeof loadEngine> {
    const known = this.#engines.get(name);
    if (known !== undefined) return known;
    const loaded = loadEngine(name).then(async (engine) => {
      await engine.open({
        directory: this.#directory,
        signal: new AbortController().signal,
        ...(guest === null ? {} : { guestKernel: async () => guest }),
        ...(guestQemu === null ? {} : { daxQemu }),
      });
      return engine;
    });
    this.#engines.set(name, loaded);
    return loaded;
  }

  async #receive(message: ToInside): Promise<void> {
    // Ctrl-C ends the VM: no case is ended from outside.
    const { signal } = new AbortController();
    let result: RunResult;
    try {
      result = await this.#run(message, signal);
    } catch (error) {
      result = { kind: "engine-error", message: errorText(error) };
    }
    this.#send({ type: "result", id: message.id, result });
  }

  async #run(message: ToInside, signal: AbortSignal): Promise<RunResult> {
    const { scenario, proposal, builtIn, timeoutMs, slowness } = message;
    const engine = await this.#engine(message.engine);
    if (scenario.backing.kind === "private-swapped") turnSwapOn();
    if (scenario.backing.kind === "hugetlb") allowHugePages();
    const available = await engine.available();
    const support = available.kind === "no" ? available : engine.supports(scenario, proposal, builtIn);
    if (support.kind === "no") return { kind: "unsupported", message: support.reason };
    const directory = mkdtempSync(join(this.#directory, "case-"));
    const { runsKvm, isLinuxGuest = false, vmm } = engineRow(message.engine).nature;
    // What was seen between two cases belongs to none.
    if (runsKvm) this.#exits.take();
    const window = vmm === "qemu" ? { windowBase: QEMU_WINDOW_BASE } : {};
    const endTrace = runsKvm
      ? traceFaultPath(directory, { hasDevices: isLinuxGuest, ...window })
      : () => null;
    const result = await engine.run(scenario, proposal, { directory, timeoutMs, signal, slowness });
    const kvmTrace = endTrace();
    const [left] = await sweep(directory);
    if (left !== undefined) return { kind: "engine-error", message: `not cleaned up: ${left}` };
    const twice = runsKvm ? this.#exits.take() : null;
    // Whatever the case has come to, a time-out included, may be the emulator's doing.
    if (twice !== null) return { kind: "emulator-defect", message: injectedTwiceText(twice, cpus().length) };
    return result.kind === "evidence" ? { ...result, evidence: { ...result.evidence, kvmTrace } } : result;
  }
}

ownMachine();
await new Agent().start();
