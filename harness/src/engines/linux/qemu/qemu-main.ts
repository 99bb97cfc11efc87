/**
 * The VM process of a Linux guest in QEMU: starts our file server and QEMU for each case, and ends both with it. A guest that
 * has met a lost page is gone in most cases: none serves a second one.
 */
import { dirname, relative } from "node:path";
import type { LinuxGuestFacts } from "../../../../../language/src/index.ts";
import { RUN_TAG } from "../../../run/tag.ts";
import { CaseRunner } from "../../vm/case-runner.ts";
import { send, serveCases } from "../../vm/vm-side.ts";
import { GuestError } from "../bring-up.ts";
import { QemuGuest } from "./guest.ts";
import { fuseVersionIn, windowBytesIn } from "./guest-words.ts";
import type { QemuPlan } from "./plan.ts";
import { type FileServer, startServer } from "./server.ts";

/** The case under way. */
let runner: CaseRunner | null = null;

function factsOf(plan: QemuPlan, guest: QemuGuest): LinuxGuestFacts {
  const { kernel, qemu, boot, mount } = plan;
  const said = guest.bootConsole;
  return {
    kernel: kernel.name,
    origin: kernel.origin,
    imageSha256: kernel.sha256,
    patches: kernel.patches,
    release: kernel.release ?? "unknown",
    commandLine: guest.commandLine,
    cpus: boot.cpus,
    bootCase: 1,
    asyncPageFaults: boot.asyncPageFaults,
    machineCheckRecovery: "hidden",
    mount: `${mount.type} ${mount.options}`,
    qemu: {
      origin: qemu.origin,
      version: qemu.version,
      accelerator: boot.accelerator,
      status: guest.status,
      fuse: fuseVersionIn(said),
      daxWindowBytes: windowBytesIn(said),
    },
  };
}

async function runWith(plan: QemuPlan, guest: QemuGuest, server: FileServer): Promise<void> {
  await guest.up();
  const prepared = await guest.prepare(plan, relative(plan.sourceDirectory, plan.filePath));
  runner = new CaseRunner(plan, prepared, (message) => void send(message), null);
  void send({ type: "ready", filePath: null });
  const report = await runner.run();
  const lost = server.lost();
  // A guest that waits for a server that has gone shows nothing of the page.
  const end =
    lost === null || report.end.kind === "vmm-killed"
      ? report.end
      : ({ kind: "defect", message: lost } as const);
  const { oopses: oopsCount } = guest;
  await send({
    type: "report",
    report: {
      ...report,
      end,
      oopsCount,
      guest: { facts: factsOf(plan, guest), console: [...guest.console, ...guest.words, ...server.words] },
    },
  });
}

async function runCase(plan: QemuPlan): Promise<void> {
  const directory = process.env[RUN_TAG] ?? dirname(plan.sourceDirectory);
  const { sourceDirectory, attributeMs, guard, slowness } = plan;
  const server = await startServer({ sourceDirectory, directory, attributeMs, guard, slowness });
  const { socketPath } = server;
  const serverPid = server.pid ?? null;
  const guest = new QemuGuest(
    { ...plan.boot, kernelName: plan.kernel.name, socketPath, serverPid },
    directory,
  );
  let failure: string | null = null;
  // A guest whose server has gone waits for ever.
  void server.failed.then((how) => {
    failure = how;
    return guest.lose(how);
  });
  try {
    await runWith(plan, guest, server);
  } catch (error) {
    // QEMU that finds no server any more ends by itself, and says that it cannot connect.
    if (failure === null || !(error instanceof GuestError)) throw error;
    throw new GuestError(`${failure}; ${error.message}`);
  } finally {
    runner = null;
    await guest.close();
    await server.close();
  }
}

serveCases<QemuPlan>({
  runCase,
  runner: () => runner,
  isKnown: (error) => error instanceof GuestError,
  // Nothing of a case is left: its QEMU and its server have ended.
  isClean: () => true,
});
