/**
 * The host's side of what it shares with the Linux program that runs a case's tasks (vmm/guest/linux): the channel, and
 * behind it the file in the window, and the tasks as processes. Mirrors vmm/guest/linux/case.h, number by number, as
 * `vmm/test/guest/linux-case.test.ts` proves with the compiler.
 *
 * The program is not trusted where it is a guest: everything read here is bounded.
 */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Channel, channelLayout, isLinuxVerb, isReadOnlyVerb, type TaskProgram } from "./channel.ts";

export const caseLayout = {
  CASE_MAGIC: 0x4553414358554e4cn,
  MAX_MAPPINGS: 16,
  MAX_PATH_BYTES: 4096,
  MAX_MOUNT_BYTES: 64,
  MAX_REFUSAL_BYTES: 256,
  CASE_PINS_TASKS: 1,
  CASE_EXECUTES: 2,
  CASE_HOLDS_FILE: 4,
  CASE_ONLY_READS: 8,
  sizeofMapping: 24,
  sizeofLinuxTask: 28,
  sizeofLinuxCase: 781432,
  offsetofMagic: 773536,
  offsetofWindowBytes: 773544,
  offsetofFlags: 773552,
  offsetofMappingCount: 773556,
  offsetofMappings: 773560,
  offsetofPath: 773944,
  offsetofMountType: 778040,
  offsetofMountSource: 778104,
  offsetofMountOptions: 778168,
  offsetofStop: 778232,
  offsetofBegun: 778236,
  offsetofRefusal: 778240,
  offsetofFirst: 778496,
  offsetofTasks: 778516,
  offsetofTaskStatus: 4,
  offsetofTaskMail: 8,
  offsetofMailDoorbell: 0,
  offsetofMailRung: 4,
  offsetofMailAnswered: 8,
  offsetofMailTsc: 12,
} as const;

/** A part of the file in the window. */
export type LinuxMapping = { readonly at: bigint; readonly fileOffset: bigint; readonly length: bigint };

/** In a guest: what its first process mounts on /mnt. */
export type LinuxMount = { readonly type: string; readonly source: string; readonly options: string };

export type LinuxSetup = {
  readonly programs: readonly TaskProgram[];
  /** As the program sees it. */
  readonly path: string;
  readonly mappings: readonly LinuxMapping[];
  readonly windowBytes: number;
  readonly mount?: LinuxMount;
  /** Each task on the processor of its `cpu`. */
  readonly pinsTasks?: boolean;
};

/** Where the build puts the program: beside the compiled code, also in an installed package. */
export function stepsPath(): string {
  // This file is <root>/vmm/src/guest/linux-case.ts or <root>/dist/vmm/src/guest/linux-case.js.
  const beside = fileURLToPath(new URL("../../guest/steps", import.meta.url));
  const fromSources = fileURLToPath(new URL("../../../dist/vmm/guest/steps", import.meta.url));
  return existsSync(beside) ? beside : fromSources;
}

/** The process of a task. */
export type LinuxTask = {
  /** null: not started, or waited for. */
  readonly pid: number | null;
  /** The signal that ended it; null: none did, or it has not ended. */
  readonly killedBy: number | null;
};

/** struct mailbox, as its process fills it. `rung` is 0 before its first report of a case. */
export type Mail = {
  readonly doorbell: number;
  readonly rung: number;
  /** Time stamp of the last report; 0 of one that went through a pipe. */
  readonly tsc: bigint;
};

export class LinuxCase {
  readonly channel: Channel;
  readonly #view: DataView;
  readonly #bytes: Uint8Array;

  /** @param memory shared with the program: the bytes of `struct linux_case`, and maybe more behind them */
  constructor(memory: Uint8Array) {
    this.#bytes = memory.subarray(0, caseLayout.sizeofLinuxCase);
    this.#view = new DataView(memory.buffer, memory.byteOffset, caseLayout.sizeofLinuxCase);
    this.channel = new Channel(memory);
  }

  /** Writes a case over whatever was there. Before the program looks at it. */
  configure(setup: LinuxSetup): void {
    const at = caseLayout;
    const { programs, mappings } = setup;
    if (mappings.length > at.MAX_MAPPINGS) {
      throw new RangeError(`${mappings.length} mappings: at most ${at.MAX_MAPPINGS}`);
    }
    this.#bytes.fill(0);
    this.channel.configure(0, programs);
    const verbs = programs.flatMap(({ steps }) => steps.map(({ verb }) => verb));
    const flags =
      (setup.pinsTasks ? at.CASE_PINS_TASKS : 0) |
      (verbs.includes("fetch") ? at.CASE_EXECUTES : 0) |
      (verbs.some(isLinuxVerb) ? at.CASE_HOLDS_FILE : 0) |
      (verbs.some(isReadOnlyVerb) ? at.CASE_ONLY_READS : 0);
    this.#view.setBigUint64(at.offsetofMagic, at.CASE_MAGIC, true);
    this.#view.setBigUint64(at.offsetofWindowBytes, BigInt(setup.windowBytes), true);
    this.#view.setUint32(at.offsetofFlags, flags, true);
    this.#view.setUint32(at.offsetofMappingCount, mappings.length, true);
    for (const [index, mapping] of mappings.entries()) {
      const base = at.offsetofMappings + index * at.sizeofMapping;
      this.#view.setBigUint64(base, mapping.at, true);
      this.#view.setBigUint64(base + 8, mapping.fileOffset, true);
      this.#view.setBigUint64(base + 16, mapping.length, true);
    }
    this.#setText(at.offsetofPath, at.MAX_PATH_BYTES, setup.path);
    if (setup.mount === undefined) return;
    this.#setText(at.offsetofMountType, at.MAX_MOUNT_BYTES, setup.mount.type);
    this.#setText(at.offsetofMountSource, at.MAX_MOUNT_BYTES, setup.mount.source);
    this.#setText(at.offsetofMountOptions, at.MAX_MOUNT_BYTES, setup.mount.options);
  }

  #setText(offset: number, room: number, text: string): void {
    const bytes = new TextEncoder().encode(text);
    if (bytes.length >= room || bytes.includes(0)) {
      throw new RangeError(`${JSON.stringify(text)}: at most ${room - 1} bytes, none of them zero`);
    }
    this.#bytes.set(bytes, offset);
  }

  /** Why the program cannot run the case; empty: it can. */
  get refusal(): string {
    const { offsetofRefusal: start, MAX_REFUSAL_BYTES: room } = caseLayout;
    const bytes = this.#bytes.slice(start, start + room);
    const end = bytes.indexOf(0);
    return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
  }

  task(index: number): LinuxTask {
    const base = this.#task(index);
    const pid = this.#view.getUint32(base, true);
    const status = this.#view.getUint32(base + caseLayout.offsetofTaskStatus, true);
    const signal = status & 0x7f;
    return { pid: pid === 0 ? null : pid, killedBy: signal === 0 ? null : signal };
  }

  /** The task that has rung goes on. */
  answer(index: number): void {
    this.answerMail(index, this.mail(index).rung);
  }

  /** The last report of a task, or of a guest's first process, and how many it has made. */
  mail(sender: number | "first"): Mail {
    const base = this.#mailbox(sender);
    return {
      doorbell: this.#view.getUint32(base + caseLayout.offsetofMailDoorbell, true),
      rung: this.#view.getUint32(base + caseLayout.offsetofMailRung, true),
      tsc: this.#view.getBigUint64(base + caseLayout.offsetofMailTsc, true),
    };
  }

  /** The sender of that report goes on; the first process also after a new case was put over it. */
  answerMail(sender: number | "first", rung: number): void {
    this.#view.setUint32(this.#mailbox(sender) + caseLayout.offsetofMailAnswered, rung, true);
  }

  #mailbox(sender: number | "first"): number {
    return sender === "first" ? caseLayout.offsetofFirst : this.#task(sender) + caseLayout.offsetofTaskMail;
  }

  /** Ends the tasks within milliseconds, unless the kernel holds one. */
  stop(): void {
    this.#view.setUint32(caseLayout.offsetofStop, 1, true);
  }

  #task(index: number): number {
    if (index < 0 || index >= channelLayout.MAX_TASKS) {
      throw new RangeError(`task ${index}: expected 0 to ${channelLayout.MAX_TASKS - 1}`);
    }
    return caseLayout.offsetofTasks + index * caseLayout.sizeofLinuxTask;
  }
}
