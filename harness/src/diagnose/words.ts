/** What was seen, in words: for the terminal, for a mail, for JSON alike. The caller makes data visible first. */
import {
  behindEndBytes,
  bytesText,
  type FileSystem,
  type GuestFile,
  mappedBytes,
  type Server,
  sinceText,
  type VcpuFacts,
  type VmFacts,
  waitsText,
} from "./facts.ts";
import { type Activity, serverState } from "./verdict.ts";

const hex = (value: bigint): string => `0x${value.toString(16)}`;
const percent = (share: number): string => `${Math.round(share * 100)} %`;

export function vmTitle({ pid, name, process, program }: VmFacts): string {
  const guest = name === null ? "" : `guest ${name}, `;
  return `${guest}process ${pid} (${program ?? process})`;
}

export function vcpuTitle({ id, tid, name }: VcpuFacts): string {
  return `${id === null ? "vCPU" : `vCPU ${id}`}, thread ${tid} (${name})`;
}

export function activityText(activity: Activity, vcpu: VcpuFacts, watchedMs: number): string {
  switch (activity.kind) {
    case "loops": {
      const { page, place, turns } = activity;
      const rate = watchedMs <= 0 ? "" : `, ${Math.round((turns * 1000) / watchedMs)} turns a second`;
      const rip = page.rip === null ? "" : `, rip ${hex(page.rip)}`;
      const host = page.hva === null ? "" : `, hva ${hex(page.hva)}`;
      const where = place === null ? "" : `, offset ${hex(place.offset)} of ${place.file.path}`;
      return `loops: gpa ${hex(page.gpa)}${host}${rip}${rate}${where}`;
    }
    case "fails":
      return `KVM_RUN fails: ${activity.times} times, errno ${activity.errno}`;
    case "waits": {
      const isOfThen = vcpu.stack?.includes(activity.where) === true;
      const stack = isOfThen ? vcpu.stack.slice(0, 8).join(" < ") : activity.where;
      return `${waitsText(activity.sleptMs)} in ${stack}`;
    }
    case "waits-for-page":
      return `halted by KVM until the page at gpa ${hex(activity.page.gpa)} is there`;
    case "runs":
      return (
        `runs ${percent(activity.share)} of the time (${percent(activity.guestShare)} in the guest), ` +
        (activity.faults === 0 ? "no page faults" : `${activity.faults} page faults seen`)
      );
    case "pages-in": {
      const { majorFaults, isSwap } = activity;
      const count = majorFaults === 0 ? "" : `, ${majorFaults} major faults`;
      return `waits for one page of ${isSwap ? "swap" : "a file or swap"} after the other${count}`;
    }
    case "halted":
      return `halted by the guest${sinceText(activity.sleptMs)}`;
    case "outside":
      return `not in KVM_RUN: sleeps${sinceText(activity.sleptMs)} in ${activity.where}`;
    case "stopped":
      return "stopped by a signal or a debugger";
    case "starved":
      return "ready to run, and has no processor";
    case "gone":
      return "has ended";
    case "unknown":
      return `not known: ${activity.reason}`;
  }
}

function serverText(server: Server): string {
  switch (server.kind) {
    case "remote":
      return "served by another machine: whether it answers is not seen from here";
    case "outside":
      return "served by the host of this machine";
    case "fuse": {
      const { waiting, processes, isExact, connection } = server;
      const open =
        waiting === null
          ? ""
          : `, ${waiting.after} ${waiting.after === 1 ? "request" : "requests"} unanswered`;
      const names = processes.map(({ pid, name, state }) => `${pid} (${name}, ${state})`).join(", ");
      const state = serverState(server);
      const who =
        names === ""
          ? state === "dead"
            ? "no process holds it: dead"
            : "its process was not seen"
          : isExact
            ? `server ${names}: ${state}`
            : `server may be ${names}`;
      return `FUSE connection ${connection}${open}, ${who}`;
    }
  }
}

export function fileSystemText(fileSystem: FileSystem | null): string {
  if (fileSystem === null) return "of no mount in its namespace (memory, or unmounted)";
  const { type, source, mountPoint, server } = fileSystem;
  const begin = mountPoint === null ? `${type}, unmounted` : `${type} at ${mountPoint} (${source})`;
  return server === null ? begin : `${begin}; ${serverText(server)}`;
}

/** What explains a hang comes first. */
export function inOrder(files: readonly GuestFile[]): readonly GuestFile[] {
  const isIll = ({ fileSystem }: GuestFile): boolean =>
    fileSystem?.server != null && ["dead", "stopped"].includes(serverState(fileSystem.server));
  const rank = (file: GuestFile): number => ((behindEndBytes(file) ?? 0n) > 0n ? 0 : isIll(file) ? 1 : 2);
  return [...files].sort((a, b) => rank(a) - rank(b));
}

/** Lines of one file: the file, its mappings. */
export function fileLines(file: GuestFile): readonly string[] {
  const behind = behindEndBytes(file);
  const size =
    file.sizeBytes === null
      ? `size not known (${file.sizeReason ?? "?"})`
      : `${bytesText(file.sizeBytes)} now`;
  const end =
    behind === null
      ? ""
      : behind === 0n
        ? ", none of it behind the end"
        : `, ${bytesText(behind)} OF IT BEHIND THE END`;
  const shown = file.pieces.slice(0, 8);
  const pieces = shown.map(
    ({ start, end: to, offset, access }) =>
      `at ${hex(start)}: ${bytesText(to - start)} from offset ${hex(offset)} (${access})`,
  );
  const more = file.pieces.length - shown.length;
  return [
    `${file.path}${file.isDeleted ? " (deleted)" : ""}: ${bytesText(mappedBytes(file))} mapped${end}; ${size}; ` +
      `device ${file.device.major}:${file.device.minor}, inode ${file.inode}; ${fileSystemText(file.fileSystem)}`,
    ...pieces,
    ...(more > 0 ? [`${more} more mappings of it`] : []),
  ];
}

/** Counters that say something, with what they grew by; of a VM of which nothing is counted, that. */
export function counterLine(vm: VmFacts): string {
  const names = [
    "exits",
    "pf_taken",
    "pf_fixed",
    "pf_emulate",
    "mmio_exits",
    "io_exits",
    "halt_exits",
    "signal_exits",
  ];
  const grown = names.flatMap((name) => {
    const counter = vm.counters?.[name];
    return counter === undefined ? [] : [{ name, by: counter.after - counter.before }];
  });
  if (grown.length > 0 && grown.every(({ by }) => by === 0)) return "none has grown";
  return grown.map(({ name, by }) => `${name} +${by}`).join(", ");
}

export function namespaceText({ namespaces }: VmFacts): string {
  const own = [
    ...(namespaces.hasOwnMounts === true ? ["mounts: paths are those of the VM's process"] : []),
    ...(namespaces.hasOwnPids === true ? ["PIDs"] : []),
  ];
  return own.length === 0 ? "" : `in namespaces of its own (${own.join("; ")})`;
}
