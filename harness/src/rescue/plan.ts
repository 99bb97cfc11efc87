/** What can be done for a VM, and at which price. Pure. */
import {
  behindEndBytes,
  type GuestFile,
  type ServerProcess,
  type VmFacts,
  wantedBytes,
} from "../diagnose/facts.ts";
import { type Diagnosis, serverState } from "../diagnose/verdict.ts";
import { qmpSocketsOf } from "./qmp.ts";

/** A file that gets as long again as it is mapped. */
export type Growth = { readonly file: GuestFile; readonly toBytes: bigint };

export type RescueStep =
  | { readonly kind: "grow"; readonly growths: readonly Growth[] }
  /** `sockets`: of QMP, tried in turn; else, and after them, SIGTERM. */
  | { readonly kind: "stop"; readonly pid: number; readonly sockets: readonly string[] }
  | { readonly kind: "continue"; readonly processes: readonly Pick<ServerProcess, "pid" | "name">[] };

export type RescueKind = RescueStep["kind"];

/** The option that asks for it. */
export const optionOf: Readonly<Record<RescueKind, string>> = {
  grow: "--accept-zeros",
  stop: "--stop",
  continue: "--continue",
};

export type RescuePlan = {
  readonly steps: readonly RescueStep[];
  /** Why what one might expect is not among them, a sentence each. */
  readonly hints: readonly string[];
};

const isStopped = ({ state }: { readonly state: string }): boolean => ["T", "t"].includes(state);

function stoppedOf(vm: VmFacts): readonly Pick<ServerProcess, "pid" | "name">[] {
  const servers = vm.files.flatMap(({ fileSystem }) => {
    const server = fileSystem?.server;
    return server?.kind === "fuse" && server.isExact ? server.processes.filter(isStopped) : [];
  });
  const own = vm.state === "T" ? [{ pid: vm.pid, name: vm.process }] : [];
  return [
    ...new Map([...own, ...servers].map((one) => [one.pid, { pid: one.pid, name: one.name }])).values(),
  ];
}

/** Growing it would be a request to its server, which has to answer. */
function servedBadly({ fileSystem }: GuestFile): string | null {
  const server = fileSystem?.server;
  if (server == null) return null;
  const state = serverState(server);
  return server.kind === "fuse" && ["dead", "stopped"].includes(state) ? state : null;
}

export function planOf({ vm, verdict }: Diagnosis): RescuePlan {
  const short = vm.files.filter((file) => (behindEndBytes(file) ?? 0n) > 0n);
  const growths = short
    .filter((file) => servedBadly(file) === null)
    .map((file) => ({ file, toBytes: wantedBytes(file) }));
  const stopped = stoppedOf(vm);
  const steps: RescueStep[] = [];
  if (growths.length > 0) steps.push({ kind: "grow", growths });
  if (stopped.length > 0) steps.push({ kind: "continue", processes: stopped });
  if (verdict.severity !== "fine")
    steps.push({ kind: "stop", pid: vm.pid, sockets: qmpSocketsOf(vm.commandLine) });
  return { steps, hints: hintsOf(vm, verdict.kind, short) };
}

function hintsOf(
  vm: VmFacts,
  kind: Diagnosis["verdict"]["kind"],
  short: readonly GuestFile[],
): readonly string[] {
  const ill = short.flatMap((file) => {
    const state = servedBadly(file);
    return state === null ? [] : [`${file.path} cannot be grown: its file server is ${state}`];
  });
  const unknown = vm.files
    .filter(({ sizeBytes }) => sizeBytes === null)
    .map(({ path, sizeReason }) => `whether ${path} is too short could not be seen: ${sizeReason ?? "?"}`);
  const after =
    kind === "stopped-by-vmm" && short.length > 0
      ? [
          "KVM_RUN has failed, and the VMM has stopped the VM: growing the file does not make it go on by itself; QEMU takes no cont then, but a reset",
        ]
      : [];
  const dead = vm.files.some(({ fileSystem }) => {
    const server = fileSystem?.server;
    return server?.kind === "fuse" && serverState(server) === "dead";
  });
  const lost =
    kind === "endless-loop" && short.length === 0 && dead
      ? ["the file server is dead: its connection has gone with it, and no new server can take it over"]
      : [];
  return [...ill, ...unknown, ...after, ...lost];
}

export function stepText(step: RescueStep): string {
  switch (step.kind) {
    case "grow":
      return step.growths
        .map(({ file, toBytes }) => `grow ${file.path} from ${file.sizeBytes ?? "?"} to ${toBytes} bytes`)
        .join("; ");
    case "continue":
      return `let ${step.processes.map(({ pid, name }) => `process ${pid} (${name})`).join(", ")} go on (SIGCONT)`;
    case "stop": {
      const [socket] = step.sockets;
      const signal = `SIGTERM to process ${step.pid}`;
      return socket === undefined
        ? `end the VM: ${signal}`
        : `end the VM: quit, at ${socket}; if that is not answered, ${signal}`;
    }
  }
}

export function priceText({ kind }: RescueStep): string {
  switch (kind) {
    case "grow":
      return "the guest reads zeros where its data was, and is not told; what it had written there is gone in any case. Where the content is known, write it back instead";
    case "continue":
      return "none: it answers what it was asked";
    case "stop":
      return "the guest is ended as by pulling its plug; the VMM closes its disks in order";
  }
}
