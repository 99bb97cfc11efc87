/** Which files the watched processes have mapped now. */
import type { GuestFile, Server } from "../diagnose/facts.ts";
import { descriptorsOf } from "../diagnose/find.ts";
import { guestFilesOf } from "../diagnose/guest-files.ts";
import { type Host, valueIn } from "../diagnose/host.ts";
import { parseStat } from "../diagnose/proc.ts";

const MAPS_BYTES = 16 * 1024 * 1024;
const TEXT_BYTES = 16 * 1024;

/** A file, by whom it is mapped. */
export type MappedFile = {
  /** As /proc/PID/maps names the inode. */
  readonly key: string;
  readonly file: GuestFile;
  readonly pids: readonly number[];
};

export type Looked = {
  readonly files: readonly MappedFile[];
  /** They have ended since the last look. */
  readonly ended: readonly number[];
  /** Whose maps could not be read this time, and why: what was known of them stands. */
  readonly unseen: readonly { readonly pid: number; readonly why: string }[];
};

type Watched = { readonly startTicks: number; text: string; files: readonly GuestFile[] };

/** Nobody is asked who serves a mount: that is not of interest here. */
const served = (connection: number): Server => ({
  kind: "fuse",
  connection,
  waiting: null,
  processes: [],
  isExact: false,
  isComplete: false,
});

const keyOf = ({ device, inode }: GuestFile): string => `${device.major}:${device.minor}/${inode}`;

export class Mapped {
  readonly #host: Host;
  readonly #watched = new Map<number, Watched>();

  constructor(host: Host) {
    this.#host = host;
  }

  /** False: there is no such process. */
  watch(pid: number): boolean {
    if (this.#watched.has(pid)) return true;
    const startTicks = this.#startOf(pid);
    if (startTicks === null) return false;
    this.#watched.set(pid, { startTicks, text: "", files: [] });
    return true;
  }

  get pids(): readonly number[] {
    return [...this.#watched.keys()];
  }

  async look(): Promise<Looked> {
    const ended: number[] = [];
    const unseen: { pid: number; why: string }[] = [];
    for (const [pid, watched] of this.#watched) {
      const isThere = () => this.#startOf(pid) === watched.startTicks;
      const why = isThere() ? await this.#lookAt(pid, watched) : null;
      if (!isThere()) {
        this.#watched.delete(pid);
        ended.push(pid);
        continue;
      }
      // A process that exits has no memory before it is a zombie (do_exit(), kernel/exit.c): the next look finds it ended.
      if (why !== null && why !== "ESRCH") unseen.push({ pid, why });
    }
    return { files: this.#files(), ended, unseen };
  }

  /** Null: a zombie, or gone. */
  #startOf(pid: number): number | null {
    const stat = parseStat(valueIn(this.#host.read(`/proc/${pid}/stat`, TEXT_BYTES)) ?? "");
    return stat === null || ["Z", "X"].includes(stat.state) ? null : stat.startTicks;
  }

  async #lookAt(pid: number, watched: Watched): Promise<string | null> {
    const maps = await this.#host.readOfMemory(`/proc/${pid}/maps`, MAPS_BYTES);
    if (maps.kind === "failed") return maps.code;
    if (maps.value === watched.text) return null;
    const links = valueIn(descriptorsOf(this.#host, pid)) ?? new Map<number, string>();
    const { files, unseen } = await guestFilesOf(this.#host, pid, links, served);
    const [why] = unseen;
    if (why !== undefined && files.length === 0) return why;
    watched.text = maps.value;
    watched.files = files;
    return why ?? null;
  }

  #files(): readonly MappedFile[] {
    const found = new Map<string, MappedFile>();
    for (const [pid, { files }] of this.#watched) {
      for (const file of files) {
        const key = keyOf(file);
        const known = found.get(key);
        found.set(
          key,
          known === undefined
            ? { key, file, pids: [pid] }
            : {
                ...known,
                file: { ...known.file, pieces: [...known.file.pieces, ...file.pieces] },
                pids: [...known.pids, pid],
              },
        );
      }
    }
    return [...found.values()];
  }
}
